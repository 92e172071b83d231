# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What zonectl tells about itself: completion in real shells, manual pages."""

import pathlib
import shutil
import subprocess
import textwrap
import time

import pexpect
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (Debian package {program})")


@pytest.fixture
def shell_environment(zone_host):
    """The environment of a shell that finds zonectl and its folders."""
    folder = zone_host.directory("bin")
    shutil.copy(zone_host.executable, f"{folder}/zonectl")
    return {
        **zone_host.environment,
        "PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": zone_host.directory("home"),
        "ZONECTL_ROOT": zone_host.root,
        "ZONECTL_STORE": zone_host.store,
        "TERM": "dumb",
    }


@pytest.fixture
def zones(zone_host):
    """Two zones with names that only differ at the end."""
    names = [zone_host.name("one"), zone_host.name("two")]
    for name in names:
        zone_host.defer(zone_host.remove, name)
        zone_host.run("run", "--name", name, "busybox", "true").ok()
    return names


def fish(environment, line):
    need("fish")
    script = f"source (zonectl completion fish | psub); complete -C '{line}'"
    done = subprocess.run(["fish", "-c", script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


def bash(environment, line):
    """Calls the function as bash does, with the words that bash makes of the line."""
    need("bash")
    words = line.replace("=", " = ").replace(":", " : ").split()
    if line.endswith(" "):
        words.append("")
    script = textwrap.dedent(
        """
        source <(zonectl completion bash)
        COMP_LINE=$1 COMP_POINT=${#1}
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _zonectl zonectl
        printf '%s\\n' "${COMPREPLY[@]}"
        """
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", line, *words], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    # Up to the last character at which bash takes words apart, it keeps what is there.
    kept = line.rpartition(" ")[2]
    cut = max(kept.rfind("="), kept.rfind(":")) + 1
    return [kept[:cut] + row for row in done.stdout.splitlines() if row]


@pytest.mark.parametrize("shell", [bash, fish])
def test_a_shell_offers_verbs_options_values_and_names(shell, shell_environment, zone_host, zones):
    def offers(line):
        return sorted(shell(shell_environment, line))

    assert offers("zonectl insp") == ["inspect"]
    assert offers("zonectl image im") == ["import"]
    assert {"--cpu-shares", "--cpus", "--cpuset-cpus"} <= set(offers("zonectl run --cpu"))
    assert offers("zonectl run --entry") == ["--entrypoint"]
    assert offers("zonectl run --network=") == ["--network=host", "--network=none"]
    assert offers("zonectl run --network h") == ["host"]
    assert offers("zonectl stop --time 3 " + zone_host.prefix) == sorted(zones)
    assert offers(f"zonectl rm {zones[0]} {zone_host.prefix}") == [zones[1]]
    assert offers("zonectl run --rm busy") == ["busybox:latest"]
    assert offers("zonectl run busybox:") == ["busybox:latest"]
    folder = zone_host.directory("files")
    zone_host.path("files/first.tar", "x")
    zone_host.path("files/second.tar", "x")
    assert offers(f"zonectl image import {folder}/f") == [f"{folder}/first.tar"]
    assert offers(f"zonectl run --env-file={folder}/s") == [f"--env-file={folder}/second.tar"]
    # What belongs to the zone's program is not ours to offer.
    assert offers("zonectl run busybox --cpu") == []
    # Another folder has other zones.
    assert offers(f"zonectl --root={folder}/root --store={folder}/store rm ") == []


def typed(command, setup, environment, line):
    """Types a line and Tab at a shell's prompt, and returns what is on the line then."""
    terminal = pexpect.spawn(command[0], command[1:], env=environment, encoding="utf8", timeout=20, dimensions=(50, 200))
    terminal.delaybeforesend = 0
    try:
        terminal.sendline(setup + "; PS1='prompt'': '")
        terminal.expect("prompt: ")
        terminal.send(line + "\t")
        time.sleep(1.5)
        # Shows the line as the shell has it, whatever was drawn.
        terminal.send("' #\x01echo 'line=\r")
        terminal.expect("\nline=([^\r\n]*)")
        return terminal.match.group(1).removesuffix(" #").strip()
    finally:
        terminal.close(force=True)


def test_tab_at_the_prompt_of_bash(shell_environment, zone_host, zones):
    need("bash")
    setup = "bind 'set enable-bracketed-paste off'; source <(zonectl completion bash)"
    shell = ["bash", "--norc", "--noprofile", "-i"]
    assert typed(shell, setup, shell_environment, "zonectl insp") == "zonectl inspect"
    assert typed(shell, setup, shell_environment, f"zonectl rm {zones[0][:-1]}") == f"zonectl rm {zones[0]}"
    assert typed(shell, setup, shell_environment, "zonectl run --network=h") == "zonectl run --network=host"
    assert typed(shell, setup, shell_environment, "zonectl run busybox:l") == "zonectl run busybox:latest"


@pytest.mark.parametrize("way", ["fpath", "source"])
def test_tab_at_the_prompt_of_zsh(shell_environment, zone_host, zones, way):
    need("zsh")
    folder = zone_host.directory("functions")
    script = subprocess.run(
        ["zonectl", "completion", "zsh"], env=shell_environment, capture_output=True, text=True, check=True
    ).stdout
    pathlib.Path(f"{folder}/_zonectl").write_text(script)
    setup = f"unset zle_bracketed_paste; bindkey -e; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D"
    if way == "source":
        setup = f"unset zle_bracketed_paste; bindkey -e; autoload -Uz compinit; compinit -u -D; source {folder}/_zonectl"
    shell = ["zsh", "-f", "-i"]
    assert typed(shell, setup, shell_environment, "zonectl insp") == "zonectl inspect"
    assert typed(shell, setup, shell_environment, f"zonectl rm {zones[0][:-1]}") == f"zonectl rm {zones[0]}"
    assert typed(shell, setup, shell_environment, "zonectl run --network=h") == "zonectl run --network=host"
    assert typed(shell, setup, shell_environment, "zonectl run busybox:l") == "zonectl run busybox:latest"


def test_an_unknown_shell_is_refused(plain_host):
    plain_host.run("completion", "tcsh").fails(125, "tcsh", "bash, zsh and fish")
    plain_host.run("completion").fails(125, "no shell")


def test_completion_never_fails(plain_host):
    for words in ([], ["--"], ["--root"], ["--root", "relative", "rm", ""], ["nonsense", "--x=", ""], ["run", "--", "-"]):
        plain_host.run("__complete", "--", *words).ok()


@pytest.fixture(scope="module")
def pages(executable, session_folder):
    """The manual pages as the package has them."""
    folder = session_folder / "man"
    subprocess.run([REPOSITORY / "scripts/man", executable, folder], check=True, timeout=60)
    return sorted(folder.glob("*.1"))


def test_every_verb_has_a_page(pages, plain_host):
    verbs = plain_host.run("help", "--list").ok().lines
    names = {"zonectl.1", "zonectl-oci.1"} | {f"zonectl-{verb.replace(' ', '-')}.1" for verb in verbs}
    assert {page.name for page in pages} == names
    assert "run" in verbs and not any(verb.startswith("_") for verb in verbs)


@pytest.mark.parametrize(
    "package, command", [("mandoc", ["mandoc", "-T", "lint", "-W", "warning"]), ("groff", ["groff", "-man", "-ww", "-z", "-Tutf8"])]
)
def test_pages_are_without_warnings(pages, package, command):
    need(package)
    for page in pages:
        result = subprocess.run([*command, page], capture_output=True, text=True, timeout=30)
        assert (result.returncode, result.stdout + result.stderr) == (0, ""), page.name


def test_a_page_reads_as_the_help(pages, plain_host):
    need("mandoc")
    page = next(page for page in pages if page.name == "zonectl-run.1")
    text = subprocess.run(["mandoc", "-T", "utf8", page], capture_output=True, text=True, check=True).stdout
    # Bold and italic as a printer made them: a letter, a backspace, the letter again.
    text = "".join(c for i, c in enumerate(text) if c != "\b" and text[i + 1 : i + 2] != "\b")
    for line in plain_host.run("help", "run").ok().lines:
        if line.startswith("  ") and "--" in line[:8]:
            assert line.split("   ")[0].strip().split(" ")[-1].replace("…", "...") in text, line
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"):
        assert f"\n{title}\n" in text
    plain_host.run("help", "--man", "nonsense").fails(125, "nonsense")
