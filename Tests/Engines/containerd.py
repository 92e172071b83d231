# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`Containerd`: containerd driven by `ctr`, which is nearer to the runtime than docker: its verbs are the shim's."""

import json

import pytest
from engine import Engine, end_process
from leaks import read, until

REFERENCE = "busybox:latest"
PLUGINS = "/usr/lib/cni"
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "zones",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "zones0",
            "isGateway": True,
            # For a zone in the background ctr never calls the plugins' DEL: rules would stay.
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.77.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
NO_UPDATE = "ctr 1.6 has no update; engines ask for it through CRI"


class Containerd(Engine):
    """containerd with a network of CNI plugins. A zone's network is what ctr makes, or none."""

    name = "containerd"
    programs = ("containerd", "ctr", "containerd-shim-runc-v2")
    # ctr says 1 for each error, and the reason on stderr.
    run_errors = exec_errors = (1, 1)
    cannot = {
        "images": "containerd builds nothing, and ctr has no commit",
        "image mounts": "ctr mounts no images",
        "group parent": "ctr names the group itself",
        "group mounts": "ctr shows a zone no control groups",
        "exec in the background": "ctr names such a process itself, and keeps it",
        "end of stdin": "ctr run does not close the stdin of a zone",
        "pods": "pods are CRI's, for which Debian has no client",
        "publish": "ctr gives the CNI plugins no port mappings",
        "update": NO_UPDATE,
        "pids limit": "ctr 1.6 has no option for it",
        "sysctl": "ctr has no option for it",
        "tmpfs size": "ctr has no option for it",
        "ulimit": "ctr has no option for it",
        "hostname": "ctr has no option for it",
        "restart policy": "ctr restarts nothing",
        "force": "ctr removes by kill and delete",
        "health": "containerd has no health checks",
        "run user": "ctr run has no option for it",
        "exec env": "ctr exec has no option for it",
        "join pid": "only --with-ns, tried for the network",
        "host network": "--net-host is tried with docker and podman",
        "id maps": "ctr remaps the snapshot by a chown of each file",
        "seccomp by default": "ctr asks for a filter only with --seccomp",
    }

    def launch(self):
        folder = self.lab.folder
        self.socket = f"{folder}/containerd.sock"
        file = self.path(
            "config.toml",
            "version = 2\n"
            f'root = "{folder}/data"\nstate = "{folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{self.socket}"\n[ttrpc]\naddress = "{self.socket}.ttrpc"\n',
        )
        # ctr looks for plugins and networks in fixed places; both are the lab's.
        NETWORK["plugins"][0]["ipam"]["dataDir"] = f"{folder}/addresses"
        script = 'mkdir -p /etc/cni/net.d /opt/cni/bin; [ ! -d "$1" ] || mount --bind "$1" /opt/cni/bin; cat >/etc/cni/net.d/10-zones.conflist'
        self.lab.run("sh", "-ec", script, "sh", PLUGINS, stdin=json.dumps(NETWORK)).exits(0)
        self._daemon = self.lab.popen("containerd", "--config", file, log="containerd.log")
        up = until(lambda: self.do("version").status == 0 or self._daemon.poll() is not None, 20, 0.1)
        if not up or self._daemon.poll() is not None:
            raise AssertionError(f"containerd does not start:\n{read(folder / 'containerd.log')[-3000:]}")
        image = self.path("image.tar")
        self.lab.run("tar", "-C", self.layout, "-cf", image, ".").exits(0)
        self.must("images", "import", image)
        self._events = self.lab.popen(*self.client("events"), log="events.log")

    def warm_up(self):
        self.exit_code(self.start("true"))
        self.clear()

    def client(self, *words):
        # A zone's control group stands below one of the namespace's name.
        return ("ctr", f"--address={self.socket}", f"--namespace={self.group}", *words)

    def end(self):
        self._events.terminate()
        self._events.wait(5)
        end_process(self._daemon)

    # Zones

    def options(self, given):
        words = ["--runc-binary", self.runtime]
        for key, value in given.items():
            if key == "memory":
                words += ["--memory-limit", value]
            elif key == "cpus":
                words += ["--cpus", value]
            elif key == "env":
                words += [word for name, text in value.items() for word in ("--env", f"{name}={text}")]
            elif key == "workdir":
                words += ["--cwd", value]
            elif key == "read_only":
                words += ["--read-only"] if value else []
            elif key == "volumes":
                for source, target, mode in value:
                    words += ["--mount", f"type=bind,src={source},dst={target},options=rbind:{mode}"]
            elif key == "network":
                if value == "bridge":
                    words.append("--cni")
                elif value.startswith("container:"):
                    words += ["--with-ns", f"network:/proc/{self.pid(value.partition(':')[2])}/ns/net"]
            elif key == "machine":
                words += ["--annotation", "zone.type=vm"]
            elif key == "drop":
                # ctr knows no ALL.
                words += [word for name in capabilities(value) for word in ("--cap-drop", name)]
            elif key == "terminal":
                words += ["--tty"] if value else []
            elif key == "interactive":
                pass
            else:
                pytest.skip(f"containerd: {self.cannot.get(key, f'ctr has no option for {key}')}")
        return words

    def run_line(self, *command, name=None, **options):
        return self.client("run", "--rm", *self.options(options), REFERENCE, name or self.new_name(), *command)

    def run(self, *command, stdin=None, **options):
        return self.lab.run(*self.run_line(*command, **options), stdin=stdin)

    def start(self, *command, name=None, **options):
        name = name or self.new_name()
        words = self.options({"network": "bridge", **options})
        log = f"file://{self.lab.folder}/{name}.log"
        self.must("run", "--detach", "--log-uri", log, *words, REFERENCE, name, *command)
        return name

    def exec_line(self, zone, *command, **options):
        self._count += 1
        words = ["--exec-id", f"exec{self._count}"]
        for key, value in options.items():
            if key in ("terminal", "interactive"):
                words += ["--tty"] if key == "terminal" else []
            elif key in ("user", "workdir"):
                words += ["--user" if key == "user" else "--cwd", value]
            else:
                pytest.skip(f"containerd: ctr exec has no option for {key}")
        return self.client("tasks", "exec", *words, zone, *command)

    def exec(self, zone, *command, stdin=None, **options):
        return self.lab.run(*self.exec_line(zone, *command, **options), stdin=stdin)

    def logs(self, zone):
        return read(self.lab.folder / f"{zone}.log")

    def _task(self, zone):
        for line in self.must("tasks", "ls").lines[1:]:
            name, pid, status = line.split()
            if name == zone:
                return int(pid), status.lower()
        return 0, "absent"

    def pid(self, zone):
        return self._task(zone)[0]

    def address(self, zone):
        told = self.lab.run("nsenter", f"--target={self.pid(zone)}", "--net", "ip", "-4", "-br", "addr", "show", "eth0").exits(0)
        return told.stdout.split()[2].partition("/")[0]

    def status(self, zone):
        return {"stopped": "exited"}.get(self._task(zone)[1], self._task(zone)[1])

    def exit_code(self, zone, seconds=15):
        assert until(lambda: self.status(zone) == "exited", seconds, 0.05), self.status(zone)
        # `delete` ends with the zone's status, or only warns of it where it was detached.
        events = self._events_of(zone, "/tasks/exit")
        assert events, f"no exit event of {zone}"
        return events[-1].get("exit_status", 0)

    def _events_of(self, zone, topic):
        found = []
        for line in read(self.lab.folder / "events.log").splitlines():
            if f" {topic} " in line:
                event = json.loads(line[line.index("{") :])
                if event.get("container_id") == zone and event.get("id", zone) == zone:
                    found.append(event)
        return found

    def killed_by_oom(self, zone):
        return bool(until(lambda: self._events_of(zone, "/tasks/oom"), 3))

    def oom_events(self, zone):
        return self._events_of(zone, "/tasks/oom")

    def pause(self, zone):
        self.must("tasks", "pause", zone)

    def resume(self, zone):
        self.must("tasks", "resume", zone)

    def update(self, zone, **options):
        pytest.skip(f"containerd: {NO_UPDATE}")

    def kill(self, zone, name):
        self.must("tasks", "kill", "--signal", f"SIG{name}", zone)

    def stop(self, zone, seconds):
        """What an engine above containerd does: SIGTERM, wait, SIGKILL."""
        self.kill(zone, "TERM")
        if not until(lambda: self.status(zone) == "exited", seconds, 0.05):
            self.kill(zone, "KILL")
        assert until(lambda: self.status(zone) == "exited", 5, 0.05)

    def restart(self, zone):
        self.kill(zone, "KILL")
        assert until(lambda: self.status(zone) == "exited", 5, 0.05)
        self.do("tasks", "delete", zone)
        self.must("tasks", "start", "--detach", "--log-uri", f"file://{self.lab.folder}/{zone}.log", zone)

    def remove(self, zone):
        task = self.do("tasks", "delete", zone)
        if task.status == 1 and "must be stopped" in task.stderr + task.stdout:
            return task
        return self.do("containers", "delete", zone)

    def remove_by_force(self, zone):
        self.do("tasks", "delete", "--force", zone)
        return self.do("containers", "delete", zone)

    def top(self, zone):
        return self.must("tasks", "ps", zone).stdout

    def clear(self):
        for zone in self.must("containers", "ls", "--quiet").stdout.split():
            self.do("tasks", "delete", "--force", zone)
            self.must("containers", "delete", zone)


def capabilities(value):
    """All capabilities that ctr gives by itself, for ALL."""
    if value != "ALL":
        return [value]
    names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    return [f"CAP_{name}" for name in names.split()]
