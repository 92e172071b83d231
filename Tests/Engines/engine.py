# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`Engine`: what every engine can do, in the same words, so that one test serves all. `Docker` and `Podman` share a command line."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import uuid

import pytest
from lab import Lab
from leaks import cgroup_hierarchies, read, until
from terminal import Terminal

IMAGE = "localhost/busybox"
# Kernels of machines.
GUEST = os.environ.get("ZONECTL_GUEST") or str(pathlib.Path(__file__).resolve().parents[2] / ".build/guest")
# podman keeps its network program out of the way.
PLACES = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman:/usr/libexec/podman"


class Engine:
    """One engine with data folders of its own in a lab. Each way to start a zone takes the same `options`:

    memory (bytes), swap (bytes), cpus, pids, env (dict), workdir, user, hostname, read_only, volumes (from, to, mode),
    publish (host port, zone port), network, drop (capabilities), tmpfs, sysctl (dict), ulimit (list), terminal, interactive.
    """

    name = ""
    programs = ()
    # What this engine cannot be asked for, with the reason that the skip prints.
    cannot = {}
    # Exit statuses of programs that are not there and that may not be executed: of `run`, then of `exec`.
    run_errors = (127, 126)
    exec_errors = (127, 126)

    def __init__(self, runtime, layout, archive, lab=None):
        """Without a lab of somebody else's it has one of its own."""
        self.runtime = str(runtime)
        # Called by this name it makes machines.
        self.machine_runtime = f"{os.path.dirname(self.runtime)}/zonectl-vm"
        self.layout, self.archive = layout, archive
        # All control groups of all zones stand below one that no other run has.
        self.group = f"zone-engines-{uuid.uuid4().hex[:8]}"
        self.lab = lab or Lab(self.name, hide_unified=os.environ.get("HIDE_UNIFIED") == "1")
        self.path = self.lab.path
        self._count = 0

    def needs(self, ability):
        """Skips the test if the engine cannot be asked for this."""
        if ability in self.cannot:
            pytest.skip(f"{self.name}: {self.cannot[ability]}")

    def new_name(self):
        self._count += 1
        return f"zone{self._count}"

    # Each engine's own

    def launch(self):
        """Starts the engine, if it is a process, and gives it the image."""
        raise NotImplementedError

    def end(self):
        """Ends the engine as its manual says."""

    def client(self, *words):
        """A command line of the engine's client."""
        raise NotImplementedError

    # Common

    def do(self, *words, **keywords):
        return self.lab.run(*self.client(*words), **keywords)

    def must(self, *words, **keywords):
        """As `do`; the command must succeed."""
        return self.do(*words, **keywords).exits(0)

    def script(self, text, **options):
        """Runs a shell script in a zone of its own that is removed afterwards."""
        return self.run("sh", "-c", text, **options)

    def at_terminal(self, words, rows=30, columns=100):
        """A client at a terminal of its own."""
        return Terminal(self.lab.command(*words), self.lab.environment, rows, columns)

    def groups(self, zone):
        """{controller: folder} of the zone's control groups, as the host sees them."""
        found = {}
        tops = {os.path.basename(top): top for top in cgroup_hierarchies()}
        for line in read(f"/proc/{self.pid(zone)}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if path == "/":
                # A hierarchy that the runtime does not use.
                continue
            for controller in controllers.split(","):
                top = tops.get(controller) or tops.get(controllers) or tops.get("unified") or "/sys/fs/cgroup"
                found[controller or "unified"] = top + path
        return found

    def limit(self, zone, controller, v1, v2):
        """A limit as the kernel has it; the file's name differs between versions of control groups."""
        groups = self.groups(zone)
        for group, file in ((groups.get(controller), v1), (groups.get("unified"), v2)):
            if group and os.path.exists(f"{group}/{file}"):
                return read(f"{group}/{file}").strip()
        raise AssertionError(f"no {v1} or {v2} in {groups}")

    def wait_for_log(self, zone, text, seconds=10):
        assert until(lambda: text in self.logs(zone), seconds), f"{text!r} does not appear: {self.logs(zone)!r}"

    def below_group(self):
        """Control groups of zones, those that engines keep for themselves left out."""
        found = []
        for top in cgroup_hierarchies():
            for folder, _, _ in os.walk(f"{top}/{self.group}", topdown=False):
                found.append(folder)
        return found

    def close(self):
        """Ends everything, removes the control groups, and returns what was left."""
        try:
            self.end()
        finally:
            until(lambda: not self.lab.processes(), seconds=3)
            left = self.lab.close()
            for folder in self.below_group():
                try:
                    os.rmdir(folder)
                except OSError as error:
                    left.append(f"control group {folder}: {error.strerror}")
        return left


class CommandLine(Engine):
    """The command line that docker made and podman took over."""

    # What makes a zone a machine.
    machine = ()
    words = {"memory": "--memory={}", "swap": "--memory-swap={}", "cpus": "--cpus={}", "pids": "--pids-limit={}",
             "workdir": "--workdir={}", "user": "--user={}", "hostname": "--hostname={}", "network": "--network={}",
             "drop": "--cap-drop={}", "add": "--cap-add={}", "tmpfs": "--tmpfs={}",
             "security": "--security-opt={}", "pid_of": "--pid=container:{}", "ipc": "--ipc={}", "restart": "--restart={}"}  # fmt: skip
    switches = {"read_only": "--read-only", "terminal": "--tty", "interactive": "--interactive"}

    def options(self, given):
        """Command line options for what a test asks for."""
        words = []
        for key, value in given.items():
            if key in self.switches:
                words += [self.switches[key]] if value else []
            elif key == "env":
                words += [f"--env={name}={text}" for name, text in value.items()]
            elif key == "sysctl":
                words += [f"--sysctl={name}={text}" for name, text in value.items()]
            elif key == "volumes":
                words += [f"--volume={':'.join(volume)}" for volume in value]
            elif key == "ulimit":
                words += [f"--ulimit={limit}" for limit in value]
            elif key == "publish":
                words.append(f"--publish=127.0.0.1:{value[0]}:{value[1]}")
            elif key == "more":
                words += value
            elif key == "machine":
                words += self.machine
            else:
                words.append(self.words[key].format(value))
        return words

    def start_options(self):
        return []

    def run_line(self, *command, name=None, **options):
        """The client's command line for a zone in the foreground that is removed afterwards."""
        name = name or self.new_name()
        return self.client("run", "--rm", "--name", name, *self.start_options(), *self.options(options), IMAGE, *command)

    def run(self, *command, stdin=None, **options):
        if stdin is not None:
            options["interactive"] = True
        return self.lab.run(*self.run_line(*command, **options), stdin=stdin)

    def start(self, *command, name=None, **options):
        """Starts a zone in the background and returns its name."""
        name = name or self.new_name()
        self.must("run", "--detach", "--name", name, *self.start_options(), *self.options(options), IMAGE, *command)
        return name

    def exec_line(self, zone, *command, **options):
        return self.client("exec", *self.options(options), zone, *command)

    def exec(self, zone, *command, stdin=None, **options):
        if stdin is not None:
            options["interactive"] = True
        return self.lab.run(*self.exec_line(zone, *command, **options), stdin=stdin)

    def logs(self, zone):
        return self.must("logs", zone).stdout

    def inspect(self, zone, what):
        return json.loads(self.must("inspect", "--format", f"{{{{json {what}}}}}", zone).stdout)

    def pid(self, zone):
        return int(self.inspect(zone, ".State.Pid"))

    def address(self, zone):
        return self.inspect(zone, ".NetworkSettings.IPAddress")

    def status(self, zone):
        """running, paused, exited, or absent."""
        done = self.do("inspect", "--format", "{{.State.Status}}", zone)
        return done.stdout.strip() if done.status == 0 else "absent"

    def exit_code(self, zone, seconds=15):
        """Waits until the zone ends, and returns the status that the engine shows."""
        assert until(lambda: self.status(zone) in ("exited", "stopped"), seconds, 0.05), self.status(zone)
        return self.inspect(zone, ".State.ExitCode")

    def killed_by_oom(self, zone):
        return self.inspect(zone, ".State.OOMKilled")

    def pause(self, zone):
        self.must("pause", zone)

    def resume(self, zone):
        self.must("unpause", zone)

    def update(self, zone, **options):
        self.must("update", *self.options(options), zone)

    def kill(self, zone, name):
        self.must("kill", "--signal", name, zone)

    def stop(self, zone, seconds):
        self.must("stop", "--time", seconds, zone)

    def restart(self, zone):
        self.must("restart", "--time", 0, zone)

    def remove(self, zone):
        """Removes a zone that is not running."""
        return self.do("rm", zone)

    def remove_by_force(self, zone):
        return self.do("rm", "--force", zone)

    def top(self, zone):
        return self.must("top", zone).stdout

    def warm_up(self):
        """Uses what makes things that stay: bridges, chains, namespaces by name."""
        self.run("true", network="host").exits(0)
        self.exit_code(self.start("true", publish=(18080, 80)))
        self.clear()

    def clear(self):
        """Removes every zone, after a test."""
        names = self.must("ps", "--all", "--quiet").stdout.split()
        if names:
            self.must("rm", "--force", *names)


class Docker(CommandLine):
    """dockerd with a containerd that it starts itself."""

    name = "dockerd"
    programs = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "iptables")
    # It asks the shim, and keeps 126 for whatever went wrong there.
    exec_errors = (126, 126)
    machine = ("--runtime=machines",)
    cannot = {"pods": "docker has no pods", "image mounts": "docker mounts no images", "id maps": "docker maps ids for the whole daemon only"}

    def launch(self):
        folder = self.lab.folder
        self.socket = f"unix://{folder}/docker.sock"
        configuration = {
            "data-root": f"{folder}/data",
            "exec-root": f"{folder}/exec",
            "pidfile": f"{folder}/docker.pid",
            "hosts": [self.socket],
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self.group}",
            "runtimes": {"zonectl": {"path": self.runtime}, "machines": {"path": self.machine_runtime}},
            "default-runtime": "zonectl",
        }
        file = self.path("daemon.json", json.dumps(configuration))
        self._daemon = self.lab.popen("dockerd", "--config-file", file, log="dockerd.log")
        up = until(lambda: self.do("version").status == 0 or self._daemon.poll() is not None, 20, 0.1)
        if not up or self._daemon.poll() is not None:
            raise AssertionError(f"dockerd does not start:\n{read(folder / 'dockerd.log')[-3000:]}")
        self.must("import", "--change", 'CMD ["sh"]', self.archive, IMAGE)

    def client(self, *words):
        return ("docker", "--host", self.socket, *words)

    def oom_events(self, zone):
        found = self.must("events", "--since", "60s", "--until", "0s", "--filter", f"container={zone}", "--filter", "event=oom")
        return found.stdout

    def end(self):
        end_process(self._daemon)


class Podman(CommandLine):
    """podman: no daemon, one conmon a zone."""

    name = "podman"
    programs = ("podman", "conmon", "netavark", "iptables")
    machine = ("--annotation=zone.type=vm",)
    cannot = {
        "oom events": "podman 4.3 has no oom event",
        "oom": "podman 4.3 starts conmon in the caller's folder and looks for its oom file in the bundle",
        "update pids": "podman 4.3 updates no pids limit",
        "health": "podman runs health checks by systemd timers",
    }

    def launch(self):
        # It asks for more open files than a machine without CAP_SYS_RESOURCE may give.
        self.configuration = self.path(
            "containers.conf",
            '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            # conmon hands on nothing else.
            f'conmon_env_vars = ["PATH={self.lab.environment["PATH"]}", "ZONECTL_GUEST={GUEST}"]\n'
            f'[engine.runtimes]\nzonectl = ["{self.runtime}"]\n',
        )
        self.must("import", "--change", 'CMD ["sh"]', self.archive, IMAGE)

    def client(self, *words):
        folder = self.lab.folder
        places = {"root": "containers", "runroot": "run", "tmpdir": "state", "network-config-dir": "networks"}
        options = [f"--{option}={folder / place}" for option, place in places.items()]
        return ("env", f"CONTAINERS_CONF={self.configuration}", "podman", *options, "--runtime=zonectl", *words)

    def start_options(self):
        # It has no such option for all zones.
        return [f"--cgroup-parent=/{self.group}"]

    def remove_by_force(self, zone):
        # Else it waits ten seconds for SIGTERM to work.
        return self.do("rm", "--force", "--time", 0, zone)

    def remove_pod(self, name):
        # podman 4.3 leaves the pod's own groups where it knows no controller.
        identity = self.must("pod", "inspect", "--format", "{{.ID}}", name).stdout.strip()
        self.must("pod", "rm", "--force", "--time", 0, name)
        for folder in self.below_group():
            if folder.endswith(f"/{identity}"):
                os.rmdir(folder)

    def clear(self):
        # It takes zones in no particular order, and stumbles over one that another still needs.
        if self.do("rm", "--force", "--time", 0, "--all").status != 0:
            self.must("rm", "--force", "--time", 0, "--all")
        self.must("pod", "rm", "--force", "--time", 0, "--all")


def end_process(process, seconds=15):
    """Ends a daemon by SIGTERM; one that does not end is killed, and an error."""
    if process.poll() is not None:
        raise AssertionError(f"the daemon had ended already, with {process.returncode}")
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("the daemon does not end by SIGTERM") from None


def missing(kind):
    """Why an engine cannot be used here; empty if it can."""
    absent = [program for program in kind.programs if not shutil.which(program, path=PLACES)]
    return f"not installed: {', '.join(absent)} (scripts/need-packages engines)" if absent else ""
