// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// The shells' scripts. They know nothing of zonectl's grammar: they hand the words over and take candidates back.
enum CompletionScript {
    static func text(for shell: String) -> String? {
        switch shell {
        case "bash": bash
        case "zsh": zsh
        case "fish": fish
        default: nil
        }
    }

    /// bash takes words apart at `=` and `:`; they are put together again for zonectl, and what bash will not replace is
    /// cut off from what comes back. Works without the package bash-completion, from bash 4.4 on.
    private static let bash = #"""
        # Completion of zonectl's command line for bash, from 'zonectl completion bash'.

        _zonectl() {
            local program=$1 line=${COMP_LINE:0:COMP_POINT} words=() answer word i
            [[ $program != '~'/* ]] || program=$HOME/${program#'~/'}
            for ((i = 0; i <= COMP_CWORD; i++)); do
                word=${COMP_WORDS[i]}
                if ((i == 0)) || [[ $line == [[:blank:]]* ]]; then
                    line=${line#"${line%%[![:blank:]]*}"}
                    words+=("")
                fi
                # Of the last word only what is before the cursor.
                ((i < COMP_CWORD)) || word=$line
                words[${#words[@]} - 1]+=$word
                line=${line#"$word"}
            done
            ((${#words[@]} > 1)) || words+=("")
            local current=${words[${#words[@]} - 1]}
            COMPREPLY=()
            mapfile -t answer < <("$program" __complete -- "${words[@]:1}" 2>/dev/null)
            local kind=${answer[0]} before=${answer[1]} uncut=""
            case $kind in
            files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "${current#"$before"}") ;;
            folders) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "${current#"$before"}") ;;
            esac
            if [[ $kind == none ]]; then
                for word in "${answer[@]:2}"; do COMPREPLY+=("${word%%$'\t'*}"); done
                word=${current//[!=:]/}
                # Up to the last character at which bash takes words apart, the line stays as it is.
                for ((i = ${#current}; i > 0 && ${#word} > 0; i--)); do
                    if [[ ${current:i-1:1} == [=:] && $COMP_WORDBREAKS == *"${current:i-1:1}"* ]]; then
                        uncut=${current:0:i}
                        break
                    fi
                done
                COMPREPLY=("${COMPREPLY[@]#"$uncut"}")
                if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
            fi
        }

        complete -F _zonectl zonectl

        """#

    private static let zsh = #"""
        #compdef zonectl
        # Completion of zonectl's command line for zsh, from 'zonectl completion zsh'.

        _zonectl() {
            local -a answer candidates
            local program=${(Q)words[1]} line word
            [[ $program != '~'/* ]] || program=$HOME/${program#'~/'}
            answer=("${(@f)$("$program" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
            case ${answer[1]} in
            files | folders)
                [[ -z ${answer[2]} ]] || compset -P "${(b)answer[2]}"
                if [[ ${answer[1]} == files ]]; then _files; else _files -/; fi
                return
                ;;
            esac
            for line in "${(@)answer[3,-1]}"; do
                [[ -n $line ]] || continue
                word=${line%%$'\t'*}
                if [[ $line == *$'\t'* ]]; then
                    candidates+=("${word//:/\\:}:${line#*$'\t'}")
                else
                    candidates+=("${word//:/\\:}")
                fi
            done
            _describe -V zonectl candidates
        }

        # Read as a file of $fpath it is the function's body; read by 'source' it says what it is for.
        if [[ ${funcstack[1]} == _zonectl ]]; then _zonectl "$@"; else compdef _zonectl zonectl; fi

        """#

    private static let fish = #"""
        # Completion of zonectl's command line for fish, from 'zonectl completion fish'.

        function __zonectl_complete
            set -l words (commandline -opc)
            set -l current (commandline -ct)
            set -l answer (command $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
            switch "$answer[1]"
                case files folders
                    set -l path (string sub -s (math (string length -- "$answer[2]") + 1) -- "$current")
                    if test "$answer[1]" = files
                        set -l paths (__fish_complete_path "$path")
                        printf '%s\n' "$answer[2]"$paths
                    else
                        set -l paths (__fish_complete_directories "$path" '')
                        printf '%s\n' "$answer[2]"$paths
                    end
                case '*'
                    set -q answer[3]; and printf '%s\n' $answer[3..-1]
            end
        end

        complete -c zonectl -f -a '(__zonectl_complete)'

        """#
}
