# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`ZoneHost`: everything a test needs to drive zonectl, and the proof that nothing is left of it."""

import os
import signal
import subprocess
import uuid

import without
from leaks import LeakCheck, alive, parent_name, read, until
from result import Result
from terminal import Terminal

# Nothing here takes longer; what does is hanging.
TIMEOUT = 30
NOBODY = 65534


class ZoneHost:
    """One test's own view of zonectl: state folders, names, commands, clean-up, leak check."""

    def __init__(self, executable, folder, store, image="busybox"):
        self.executable = str(executable)
        self.folder = folder
        self.root = str(folder / "root")
        self.store = str(store)
        self.image = image
        self.prefix = f"t{uuid.uuid4().hex[:7]}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ZONECTL")}
        self.environment["ZONECTL_NETWORK"] = "none"
        self._deferred = []
        self._made = []
        os.makedirs(self.root, exist_ok=True)
        self.leaks = LeakCheck(folder, self.prefix, [self.root], [self.store])

    # Names, files, clean-up

    def name(self, suffix="z"):
        """A zone name that no other test has."""
        return f"{self.prefix}-{suffix}"

    def path(self, name, text=None, mode=None):
        """A path in the test's own folder; with a text, a file there."""
        path = self.folder / name
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if mode is not None:
            path.chmod(mode)
        return str(path)

    def directory(self, name):
        """A folder in the test's own folder."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def defer(self, action, *arguments):
        """Runs the action when the test ends, last in first out."""
        self._deferred.append((action, arguments))

    def use_folders(self, root, store):
        """Goes on with other state folders."""
        self.root, self.store = str(root), str(store)
        self.leaks.parents.add(parent_name(self.root))

    # Commands

    def command(self, *arguments):
        """The whole command line for a verb."""
        words = (self.executable, "--root", self.root, "--store", self.store, *arguments)
        return tuple(str(word) for word in words)

    def run(self, *arguments, stdin=None, timeout=TIMEOUT, env=None, wrap=(), preexec=None, **options):
        """Runs zonectl to its end and returns the result. `stdin` is text; without it, /dev/null."""
        return self.execute(
            (*wrap, *self.command(*arguments)), stdin=stdin, timeout=timeout, env=env, preexec=preexec, **options
        )

    def execute(self, command, stdin=None, timeout=TIMEOUT, env=None, preexec=None, **options):
        """Runs any command as `run` runs zonectl. One that hangs is killed, and reported with what it had said."""
        command = tuple(str(word) for word in command)
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        streams = {"stdin": source, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            command,
            env={**self.environment, **(env or {})},
            preexec_fn=preexec,
            start_new_session=True,
            **streams,
        )
        try:
            out, err = process.communicate(None if stdin is None else stdin.encode(), timeout)
        except subprocess.TimeoutExpired:
            out, err = _kill_and_drain(process)
            result = self._result(command, process.returncode, out, err)
            raise AssertionError(f"killed: not finished after {timeout} s{result}") from None
        return self._result(command, process.returncode, out, err)

    @staticmethod
    def _result(command, status, out, err):
        without.heard((err or b"").decode(errors="replace"))
        return Result(command, status, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))

    def zone(self, script, *options, **keywords):
        """Runs a shell script in a zone of its own that is removed afterwards."""
        return self.run("run", "--rm", *options, self.image, "sh", "-c", script, **keywords)

    def import_image(self, path, name=None, command=(), **keywords):
        """Imports an image under a name, with a command of its own if one is given."""
        options = [] if name is None else [f"--name={name}"]
        return self.run("image", "import", *options, path, *command, **keywords)

    def user(self, *arguments, **keywords):
        """Runs zonectl as an ordinary user, without groups."""
        return self.run(*arguments, user=NOBODY, group=NOBODY, extra_groups=[], **keywords)

    # Zones in the background

    def popen(self, *arguments, wrap=(), **keywords):
        """Starts zonectl in the background; it is killed at the end of the test if it still runs."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
        process = subprocess.Popen(
            (*wrap, *self.command(*arguments)), env=self.environment, start_new_session=True, **streams
        )
        self.defer(_kill_group, process)
        return process

    def start(self, suffix="z", command=("sleep", "1000"), options=(), image=None, **keywords):
        """Starts a zone in the background, waits until it runs, and returns its name. Removed when the test ends."""
        name = self.name(suffix)
        process = self.popen("run", "--name", name, *options, image or self.image, *command, **keywords)
        self.defer(self.remove, name)
        status = until(lambda: self.status(name) == "running" or process.poll() is not None)
        if not status or process.poll() is not None:
            out, err = _kill_and_drain(process)
            result = self._result(process.args, process.returncode, out, err)
            raise AssertionError(f"the zone does not run but is {self.status(name)!r}{result}")
        self._made.append((name, process))
        return name

    def detached(self, suffix="z", command=("sleep", "1000"), options=(), image=None):
        """Starts a zone that has a keeper of its own, and returns its name. Removed when the test ends."""
        name = self.name(suffix)
        self.defer(self.remove, name)
        self.run("run", "-d", "--name", name, *options, image or self.image, *command).ok(stdout=name + "\n")
        return name

    def keeper(self, name):
        """The host's number of the process that stays with a zone in the background; `None` if there is none."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if read(f"/proc/{pid}/cmdline").replace("\0", "") == f"zonectl: {name}" and alive(pid):
                return int(pid)
        return None

    def process(self, name):
        """The zonectl in the background that runs this zone."""
        return next(process for made, process in reversed(self._made) if made == name)

    def finish(self, name, timeout=TIMEOUT):
        """Waits until the zonectl of a zone in the background ends, and returns its result."""
        process = self.process(name)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            out, err = _kill_and_drain(process)
            result = self._result(process.args, process.returncode, out, err)
            raise AssertionError(f"killed: not finished after {timeout} s{result}") from None
        return self._result(process.args, process.returncode, out, err)

    def remove(self, name):
        """Removes a zone whatever it does; none of that name is as good."""
        self.run("rm", "-f", name)

    # What zonectl says

    def listed(self):
        """All zones as `ls --json` gives them, by name."""
        return {zone["name"]: zone for zone in self.run("ls", "--json").ok().json}

    def status(self, name):
        """A zone's status, `None` if it is not listed."""
        return self.listed().get(name, {}).get("status")

    def inspect(self, name):
        """One zone as `inspect` gives it."""
        return self.run("inspect", name).ok().json[0]

    def pid(self, name):
        """The host's number of the zone's first process."""
        return self.inspect(name)["pid"]

    def cgroup_file(self, name, *choices):
        """The first of these files that a zone's control groups have, as a path; `None` if none has."""
        for group in self.inspect(name)["cgroups"]:
            for choice in choices:
                path = os.path.join(group, choice)
                if os.path.exists(path):
                    return path
        return None

    # Terminals

    def terminal(self, *arguments, rows=24, columns=80):
        """Starts zonectl at a terminal of its own."""
        terminal = Terminal(self.command(*arguments), self.environment, rows, columns)
        self.defer(terminal.close)
        return terminal

    # The end

    def close(self):
        """Undoes what was deferred and returns the names of everything that is left nevertheless, now removed."""
        troubles = []
        while self._deferred:
            action, arguments = self._deferred.pop()
            try:
                action(*arguments)
            except Exception as error:  # The rest of the clean-up must still happen.
                troubles.append(f"clean-up failed: {error}")
        left = self.leaks.find()
        if left:
            self.leaks.clean()
        self.leaks.remove_parents()
        return troubles + left


def _kill_group(process):
    """Kills a background command with everything in its session's first group, and reaps it."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _kill_and_drain(process):
    """Kills a command and returns what it had written; a zone that survives it may hold the pipes open."""
    _kill_group(process)
    try:
        return process.communicate(timeout=1)
    except subprocess.TimeoutExpired as error:
        return error.stdout, error.stderr
