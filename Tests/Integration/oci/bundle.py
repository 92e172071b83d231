# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""OCI bundles for tests: a root file system around a static busybox, and a configuration to change by paths."""

import copy
import json
import os
import pathlib

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]

PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n"
GROUP = "root:x:0:\nann:x:1000:\nclub:x:2000:ann\n"

# What engines ask for when they are asked for nothing.
DEFAULT = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/bin:/sbin"],
        "cwd": "/",
        "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
    },
    "root": {"path": "rootfs", "readonly": False},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
    },
}


class Unset:
    """Stands for a key that is to be taken out."""


UNSET = Unset()


def configuration(args, settings=None, mounts=()):
    """The default configuration with these arguments, changed by `settings`: dotted paths and their values.

    A text for `args` is a script for the shell. A number in a path is a place in a list.
    """
    config = copy.deepcopy(DEFAULT)
    config["process"]["args"] = ["sh", "-c", args] if isinstance(args, str) else list(args)
    config["mounts"] += [dict(mount) for mount in mounts]
    for path, value in (settings or {}).items():
        change(config, path, value)
    return config


def change(config, path, value):
    """Sets or (for `UNSET`) removes what a dotted path names."""
    *parents, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    place = config
    for word in parents:
        place = place[word] if isinstance(place, list) else place.setdefault(word, {})
    if value is UNSET:
        place.pop(last, None)
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value


def namespaces(*kinds, **joined):
    """The value of `linux.namespaces`: new ones of these kinds, and those of the host named by path."""
    return [{"type": kind} for kind in kinds] + [{"type": kind, "path": path} for kind, path in joined.items()]


def tmpfs(destination, *options):
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def bind(source, destination, *options):
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", *options]}


class Bundle:
    """A bundle's folder."""

    def __init__(self, path, config, busybox, applets):
        self.path = pathlib.Path(path)
        self.rootfs = self.path / "rootfs"
        self.config = config
        make_rootfs(self.rootfs, busybox, applets)
        self.write()

    def __str__(self):
        return str(self.path)

    def write(self, text=None):
        """Writes the configuration, or this text in its place."""
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1) if text is None else text)

    def change(self, **settings):
        """Changes the configuration that is there; `__` stands for the dot."""
        for path, value in settings.items():
            change(self.config, path.replace("__", "."), value)
        self.write()

    def file(self, name, text="", mode=0o644):
        """A file in the root file system."""
        path = self.rootfs / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path


def make_rootfs(path, busybox, applets):
    """A small root file system: one program under many names."""
    for name in ("bin", "dev", "etc", "home/ann", "proc", "root", "sys", "tmp"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    os.link(busybox, path / "bin/busybox")
    for name in applets:
        os.symlink("busybox", path / "bin" / name)
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
