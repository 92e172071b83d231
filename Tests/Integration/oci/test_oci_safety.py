# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a container must never do to its host, one part per property (P1 to P16)."""

import hashlib
import os
import pathlib
import platform
import re
import resource
import shutil
import stat
import subprocess

import pytest
from bundle import bind, tmpfs
from engine import needs
from leaks import read
from test_oci_console import Receiver

HERE = pathlib.Path(__file__).resolve().parent
TERMINAL = {"process.terminal": True}


def _digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _tree(top):
    """Everything about a folder that a container could have changed."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in [".", *folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            text = read(path) if stat.S_ISREG(status.st_mode) else ""
            found[path] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_rdev, text)
    return found


@pytest.fixture(scope="session")
def compiled(session_folder):
    """Makes a program of a C file that lies here."""

    def make(name, *options):
        if not shutil.which("cc"):
            pytest.skip("no C compiler is installed (Debian package gcc)")
        path = session_folder / name
        if not path.exists():
            subprocess.run(["cc", "-O1", *options, "-o", path, HERE / f"{name}.c"], check=True, timeout=60)
        return str(path)

    return make


@pytest.fixture
def canary(oci):
    """A folder of the host that must stay as it is, whatever leads there."""
    top = oci.directory("outside")
    for name in ("mount", "tmp", "sub", "dev", "pts"):
        os.mkdir(f"{top}/{name}")
    for name in ("secret", "file", "null", "console", "sub/f"):
        oci.path(f"outside/{name}", "CANARY")
    before = _tree(top)
    yield top
    assert _tree(top) == before, "the host's folder was changed"
    assert not re.search(rf" {re.escape(top)}[ /]", read("/proc/self/mountinfo")), "something is mounted on the host"


# P1: the running executable cannot be overwritten.


@needs("zonectl", "runc", why="it is no copy of its own")
def test_own_executable_as_command(oci):
    before = _digest(oci.executable)
    name = oci.started(settings={"process.capabilities": {"effective": ["CAP_SYS_PTRACE"]}})
    # Holds every executable that is not the image's, and writes through what it holds once that process has ended.
    attack = (
        "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in /bin/*|'') ;; *)"
        " (exec 3<$p/exe && for i in 1 2 3; do (true > /proc/self/fd/3) && echo WRITTEN; usleep 1000; done) 2>/dev/null"
        " ;; esac; done; done"
    )
    attacker = oci.popen("exec", name, "sh", "-c", attack)
    for _ in range(10):
        oci.run("exec", name, "/proc/self/exe")
        oci.go(("/proc/self/exe",))
        bundle = oci.bundle(("/script",), name=f"script{oci.name(str(_))}")
        bundle.file("/script", "#!/proc/self/exe\n", 0o755)
        oci.go(bundle=bundle)
    oci.run("exec", name, "touch", "/stop").exits(0)
    out, err = attacker.communicate(timeout=20)
    assert b"WRITTEN" not in out, (out, err)
    assert _digest(oci.executable) == before, "the runtime was overwritten from inside"


@needs("zonectl", why="it has another way: a copy")
def test_waiting_container_runs_a_read_only_executable(oci):
    """Between create and start the container's process is zonectl itself."""
    name = oci.created()
    path = f"/proc/{oci.pid(name)}/exe"
    assert os.statvfs(path).f_flag & os.ST_RDONLY, "the mount of the executable can be written"


# P2: /proc and /sys only on real directories.


@needs("zonectl", why="it takes the link inside the root")
@pytest.mark.parametrize("path", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["tmp", "/", "{outside}", "../../../../../../../..{outside}"])
def test_links_for_the_kernels_file_systems(oci, canary, path, target):
    bundle = oci.bundle(("ls", "-l", "/"))
    (bundle.rootfs / path).rmdir()
    os.symlink(target.format(outside=canary), bundle.rootfs / path)
    name = oci.name()
    oci.refused(oci.create(bundle, name), path, name=name)


@pytest.mark.parametrize("path", ["proc", "sys"])
def test_file_for_the_kernels_file_systems(oci, path):
    bundle = oci.bundle()
    (bundle.rootfs / path).rmdir()
    bundle.file(path, "text")
    name = oci.name()
    oci.refused(oci.create(bundle, name), path, name=name)


# P3: nothing of the host can be reached, by no path. Seen to fail where only the topmost of two mounts upon
# the new root was unmounted: the swaps below then read and wrote the host's files.

_BINDS = {"none": (), "folder": ("folder",), "folders": ("folder", "folder"), "file": ("file",)}


@pytest.mark.parametrize("options", [(), ("--no-pivot",)], ids=["pivot", "no pivot"])
@pytest.mark.parametrize("hooks", [False, True], ids=["", "hooks"])
@pytest.mark.parametrize("kinds", _BINDS.values(), ids=_BINDS.keys())
def test_nothing_lies_upon_the_root(oci, canary, kinds, hooks, options):
    source = oci.source(f="text")
    mounts = [
        bind(source if kind == "folder" else f"{source}/f", f"/mnt/{number}") for number, kind in enumerate(kinds)
    ]
    settings = {}
    if hooks:
        settings["hooks"] = {"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]}
    ups = "../" * 20
    script = f"cd /; ls -a /.. /../.. {ups} /proc/self/root/.. /proc/1/root/../..; cat {ups}{canary}/secret /link/secret"
    bundle = oci.bundle(f"{script}; cd {ups}; pwd; ls -a", settings, mounts)
    bundle.file("/marker")
    os.symlink(f"{ups}{canary}", bundle.rootfs / "link")
    result = oci.go(bundle=bundle, options=options).exits(0)
    result.check("CANARY" not in result.stdout, "a file of the host was read")
    result.check(result.lines.count("marker") == 6, "some way up leads out of the root")
    points = oci.text("cat /proc/self/mountinfo", bundle=None, mounts=mounts, options=options).splitlines()
    assert [line.split(" ")[4] for line in points].count("/") == 1, points


# P3: races.

_RACED = ("mount", "tmp", "copy", "hidden", "read", "work", "node", "dev")


def _race(oci, canary, number, leads):
    """A bundle whose root has each of `_RACED` as a directory and, beside it, as a link to the host's folder."""
    # The swapper takes the pairs' place, so the mount points below are looked up through whatever is there.
    settings = {
        "linux.maskedPaths": ["/hidden/secret", "/hidden/sub"],
        "linux.readonlyPaths": ["/read/file", "/read/sub"],
        "linux.devices": [{"path": "/node/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}],
        "process.cwd": f"/work/w{number}",
    }
    mounts = [
        bind(oci.source(f="text"), f"/mount/m{number}"),
        bind(oci.source(f="text"), "/mount/mount"),
        tmpfs(f"/tmp/t{number}"),
        tmpfs("/copy/sub", "tmpcopyup"),
    ]
    bundle = oci.bundle("cat /copy/sub/* /hidden/secret 2>/dev/null; true", settings, mounts, name=f"race{number}")
    pairs = []
    for name in _RACED:
        folder, link = bundle.rootfs / name, bundle.rootfs / f".{name}"
        folder.mkdir(exist_ok=True)
        for inner in ("sub", "mount"):
            (folder / inner).mkdir(exist_ok=True)
        (folder / "secret").write_text("inside")
        (folder / "file").write_text("inside")
        os.symlink(leads.format(outside=canary), link)
        pairs += [str(folder), str(link)]
    return bundle, pairs


# The chance that a start succeeds is small where so much is swapped; one that never does shows nothing.
@needs("zonectl", why="it has holes there, or takes long")
@pytest.mark.parametrize("leads", ["{outside}", "../../../../../../../../..{outside}"], ids=["absolute", "relative"])
def test_swapped_links_while_containers_start(oci, canary, compiled, leads):
    swap = compiled("swap")
    swaps = worked = 0
    for number in range(60):
        # A loaded machine exchanges less in the time that twelve rounds take.
        if number >= 12 and swaps >= 100_000:
            break
        bundle, pairs = _race(oci, canary, number, leads)
        # All at once, then each alone: an early target that fails would hide the later ones.
        chosen = pairs if number % 4 == 0 else pairs[number % len(_RACED) * 2 :][:2]
        swapper = subprocess.Popen([swap, *chosen], stdout=subprocess.PIPE, text=True)
        try:
            for _ in range(4):
                result = oci.go(bundle=bundle)
                result.check(result.status in (0, 1), "an unexpected status")
                result.check("CANARY" not in result.stdout, "a file of the host is seen")
                worked += result.status == 0
        finally:
            swapper.terminate()
            out, _ = swapper.communicate(timeout=10)
        swaps += int(out.split()[0])
        # The host's mount table is the canary's to check; its tree is looked at now, to know which bundle it was.
        assert os.listdir(canary) and read(f"{canary}/secret") == "CANARY", f"changed by the race on {chosen}"
    print(f"{swaps} exchanges, {worked} containers ran")
    assert swaps >= 100_000, f"only {swaps} exchanges: the test shows nothing"
    assert worked >= 5, f"only {worked} containers ran: the test shows nothing"


# P4: no inheritable capabilities.


def test_inheritable_capabilities_are_empty(oci):
    """Though the caller has some, and the configuration asks for them."""
    wrap = ("setpriv", "--inh-caps", "+chown,+kill")
    sets = ("bounding", "effective", "permitted")
    settings = {"process.capabilities": {key: ["CAP_CHOWN", "CAP_KILL"] for key in sets}}
    words = ("grep", "CapInh", "/proc/self/status")
    assert oci.go(words, settings, wrap=wrap).exits(0).stdout.split()[1].strip("0") == ""
    name = oci.started(settings=settings)
    for options in ((), ("--cap", "CAP_KILL")):
        result = oci.run("exec", *options, name, *words, wrap=wrap).exits(0)
        result.check(result.stdout.split()[1].strip("0") == "", "there are inheritable capabilities")


# P5: no descriptor of the host.


def _leave_open(oci):
    """Leaves descriptors of the host's root open in whatever is started with the result, as an engine may."""
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    oci.defer(os.close, folder)
    numbers = []
    for number in range(folder + 1, folder + 30):
        if not os.path.exists(f"/proc/self/fd/{number}"):
            os.dup2(folder, number, inheritable=True)
            oci.defer(os.close, number)
            numbers.append(number)
    return {"pass_fds": [folder, *numbers]}, max([folder, *numbers])


def test_working_directory_is_no_descriptor(oci):
    given, last = _leave_open(oci)
    bundle = oci.bundle("pwd; ls -a")
    name = oci.started(**given)
    ran = []
    for number in range(3, last + 8):
        for path in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", f"/proc/self/fd/{number}/../.."):
            bundle.change(process__cwd=path)
            result = oci.go(bundle=bundle, **given)
            ran += [result] if result.status == 0 else []
        result = oci.run("exec", "--cwd", f"/proc/self/fd/{number}", name, "pwd", **given)
        ran += [result] if result.status == 0 else []
    if oci.runtime.kind != "zonectl" and ran:
        pytest.skip(f"{oci.runtime.kind} lets some pass")
    assert not ran, ran


def test_link_to_a_descriptor_is_no_working_directory(oci):
    given, last = _leave_open(oci)
    bundle = oci.bundle("pwd; ls -a")
    for number in range(3, last + 2):
        os.symlink(f"/proc/self/fd/{number}", bundle.rootfs / f"cwd{number}")
        bundle.change(process__cwd=f"/cwd{number}")
        result = oci.go(bundle=bundle, **given)
        if result.status == 0:
            oci.strict(result)
        result.check(result.status != 0, "it runs")


def test_no_descriptor_gets_in(oci):
    given, _ = _leave_open(oci)
    assert oci.go("ls /proc/self/fd", **given).exits(0).stdout.split() == ["0", "1", "2", "3"]
    name = oci.started(**given)
    shown = oci.run("exec", name, "sh", "-c", "ls /proc/self/fd", **given).exits(0).stdout.split()
    assert shown == ["0", "1", "2", "3"]
    assert sorted(os.listdir(f"/proc/{oci.pid(name)}/fd")) == ["0", "1", "2"]


@needs("zonectl", why="its process holds directories until start")
def test_waiting_container_holds_no_directory(oci):
    """What waits for `start` can be attacked for as long as the engine likes."""
    given, _ = _leave_open(oci)
    pid = oci.pid(oci.created(**given))
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        assert not os.path.isdir(path), f"{number} is the directory {os.readlink(path)}"
    cwd, root = (os.stat(f"/proc/{pid}/{name}") for name in ("cwd", "root"))
    assert (cwd.st_dev, cwd.st_ino) == (root.st_dev, root.st_ino)


# P6: masks come from our own /dev/null.


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_mask_is_not_what_the_image_calls_null(oci, canary, kind):
    # No file system on /dev: what is there is the image's.
    settings = {
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux.maskedPaths": ["/secret", "/proc/kcore"],
    }
    bundle = oci.bundle("stat -c %t:%T /secret; cat /secret; head -c 9 /proc/kcore", settings)
    bundle.file("/secret", "inside")
    null = bundle.rootfs / "dev/null"
    if kind == "file":
        null.write_text("EVIL")
    elif kind == "link":
        os.symlink(f"{canary}/null", null)
    else:
        null.mkdir()
    result = oci.go(bundle=bundle)
    result.check("EVIL" not in result.stdout and "CANARY" not in result.stdout, "the mask is the image's")
    result.check("inside" not in result.stdout, "nothing is masked")
    if result.status == 0:
        result.check(result.stdout == "1:3\n", "the mask is no null device")


# P7: the console is of the container's own devpts.


@pytest.fixture
def receiver(oci, short_folder):
    receiver = Receiver(f"{short_folder}/console")
    oci.defer(receiver.close)
    return receiver


def _with_terminal(oci, receiver, bundle):
    name = oci.name()
    return name, oci.create(bundle, name, "--console-socket", receiver.path)


@needs("zonectl", why="it opens what is there")
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "link"])
def test_terminal_only_from_a_devpts(oci, canary, receiver, kind):
    bundle = oci.bundle("true", TERMINAL)
    mounts = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/dev/pts"]
    if kind == "tmpfs":
        mounts.append(tmpfs("/dev/pts"))
    elif kind == "bind":
        # Regular files under the names of the devices.
        source = oci.source("pts")
        for file in ("ptmx", "0", "1"):
            oci.path(f"pts/{file}", "CANARY")
        mounts.append(bind(source, "/dev/pts"))
    else:
        bundle.config["mounts"] = mounts = [mount for mount in mounts if mount["destination"] != "/dev"]
        os.symlink(f"{canary}/pts", bundle.rootfs / "dev/pts")
    bundle.change(mounts=mounts)
    name, result = _with_terminal(oci, receiver, bundle)
    oci.refused(result, name=name)
    assert kind != "bind" or read(f"{source}/ptmx") == "CANARY"


def test_console_is_no_link(oci, canary, receiver):
    bundle = oci.bundle("true", TERMINAL)
    kept = [mount for mount in bundle.config["mounts"] if mount["destination"] not in ("/dev", "/dev/shm")]
    (bundle.rootfs / "dev/pts").mkdir()
    os.symlink(f"{canary}/console", bundle.rootfs / "dev/console")
    bundle.change(mounts=kept)
    name, result = _with_terminal(oci, receiver, bundle)
    if oci.runtime.kind == "zonectl":
        oci.refused(result, ("console", "terminal"), name=name)


@needs("zonectl", why="it is another way")
def test_terminal_is_of_the_containers_own_devpts(oci, receiver):
    name = oci.created(settings=TERMINAL, options=("--console-socket", receiver.path))
    master, _ = receiver.descriptor()
    oci.defer(os.close, master)
    hosts, mine = os.stat("/dev/pts"), os.fstat(master)
    assert mine.st_dev != hosts.st_dev, "the terminal is the host's"
    inside = os.stat(f"/proc/{oci.pid(name)}/root/dev/pts")
    assert mine.st_dev == inside.st_dev, "the terminal is not the container's"


# P8: sysctls go to a procfs of our own.


@needs("zonectl", why="it writes where the path leads, or refuses")
@pytest.mark.parametrize("kind", ["file", "link to the host's", "tmpfs"])
def test_sysctl_goes_to_the_real_procfs(oci, canary, kind):
    """What lies at /proc/sys is a mount that the configuration has put there, with names of the image's."""
    source = oci.directory("fake/net/ipv4")
    fake = f"{source}/ip_forward"
    before = read("/proc/sys/net/ipv4/ip_default_ttl")
    if kind == "link to the host's":
        os.symlink(f"{canary}/file", fake)
    else:
        oci.path("fake/net/ipv4/ip_forward", "0")
    over = tmpfs("/proc/sys") if kind == "tmpfs" else bind(oci.directory("fake"), "/proc/sys")
    settings = {"linux.sysctl": {"net.ipv4.ip_forward": "1"}}
    name = oci.created(settings=settings, mounts=[over])
    assert read("/proc/sys/net/ipv4/ip_default_ttl") == before
    if kind != "tmpfs":
        assert read(fake) == ("CANARY" if "link" in kind else "0"), "the file in the procfs' place was written"
    # In effect nevertheless: seen from the host through the container's network namespace.
    shown = oci.execute(("nsenter", "-t", str(oci.pid(name)), "-n", "cat", "/proc/sys/net/ipv4/ip_forward"))
    assert shown.exits(0).stdout == "1\n"


@needs("zonectl", why="it takes more")
@pytest.mark.parametrize("key", ["net/../kernel/core_pattern", "net.ipv4/../../kernel.domainname", "../net.x", "net.", ""])
def test_sysctl_that_leads_elsewhere(oci, key):
    before = read("/proc/sys/kernel/core_pattern")
    name = oci.name()
    oci.refused(oci.create(oci.bundle(settings={"linux.sysctl": {key: "1"}}), name), "sysctl", name=name)
    assert read("/proc/sys/kernel/core_pattern") == before


# P9 is in test_oci_exec.test_bad_user; here the groups, and what a process file says.


@needs("zonectl", why="it has no such option, or takes it")
@pytest.mark.parametrize("text", ["", "-1", "4294967295", "0x0", "99999999999999999999", "1:2", "a"])
def test_bad_group(oci, text):
    name = oci.started()
    oci.refused(oci.run("exec", "--additional-gids", text, name, "id"), status=255)


# P10: what the image says of its users is read inside.


@pytest.mark.parametrize("file", ["passwd", "group"])
def test_users_are_looked_up_inside(oci, canary, file):
    oci.path(f"outside-{file}", "root:x:0:0:root:/HOSTHOME:/bin/sh\nann:x:1000:1000:Ann:/HOSTHOME:/bin/sh\n")
    bundle = oci.bundle("echo $HOME", {"process.user": {"uid": 1000, "gid": 1000}})
    for target in (oci.path(f"outside-{file}"), "/proc/1/root/etc/passwd", "../" * 20 + oci.path(f"outside-{file}")):
        (bundle.rootfs / "etc" / file).unlink()
        os.symlink(target, bundle.rootfs / "etc" / file)
        result = oci.go(bundle=bundle)
        result.check("HOSTHOME" not in result.stdout, "a file of the host was read")


@pytest.mark.parametrize("kind", ["pipe", "endless", "directory", "device"])
def test_user_file_that_is_none(oci, kind):
    """It must neither hang nor take all memory."""
    bundle = oci.bundle("echo ran", {"process.user": {"uid": 1000, "gid": 1000}})
    path = bundle.rootfs / "etc/passwd"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.write_text("x")
        os.truncate(path, 8 << 30)
    elif kind == "device":
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        path.mkdir()
    if oci.runtime.kind != "zonectl" and kind != "directory":
        pytest.skip("runc and crun read it to the end")
    result = oci.go(bundle=bundle, timeout=10, preexec=_little_memory)
    result.check(result.status in (0, 1), "neither refused nor run")


def _little_memory():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


@pytest.mark.parametrize("target", ["{outside}", "{outside}/new", "../../../../../../../..{outside}/new"])
def test_working_directory_is_made_inside(oci, canary, target):
    bundle = oci.bundle("pwd", {"process.cwd": "/link/deep"})
    os.symlink(target.format(outside=canary), bundle.rootfs / "link")
    oci.go(bundle=bundle)


# P13: hostile files of process and resources. test_oci_config does this for config.json.

HOSTILE = {
    "empty": b"",
    "no text": b"\xff\xfe\0\0",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "cut": b'{"args": ["true"], "cwd": "/"',
    "many keys": b"{" + b",".join(b'"k%d": 1' % number for number in range(100_000)) + b', "args": 1}',
    "long text": b'{"args": ["' + b"x" * (40 << 20) + b'"]}',
    "null": b"null",
    "numbers": b'{"user": {"uid": 1e999}, "args": ["true"], "cwd": "/"}',
    "twice": b'{"args": ["true"], "args": ["echo", "second"], "cwd": "/", "user": {"uid": 0, "gid": 0}}',
}


@needs("zonectl", why="it reads whatever there is")
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_process_file(oci, data):
    name = oci.started()
    path = oci.path("process.json")
    pathlib.Path(path).write_bytes(data)
    result = oci.run("exec", "--process", path, name, timeout=15, preexec=_little_memory)
    if data is not HOSTILE["twice"]:
        oci.refused(result, "process.json", status=255)
    else:
        result.check(result.status in (0, 255), "neither refused nor run")


@needs("zonectl", why="it takes some, or reads without bound")
@pytest.mark.parametrize("kind", ["empty", "no text", "deep", "cut", "long text"])
def test_hostile_resources(oci, kind):
    name = oci.started()
    path = oci.path("resources.json")
    pathlib.Path(path).write_bytes(HOSTILE[kind])
    result = oci.run("update", "--resources", path, name, timeout=15, preexec=_little_memory)
    oci.refused(result)
    assert oci.status(name) == "running"


# P14: no setuid helper; sockets are files for their owner alone.


@needs("zonectl", why="it has none")
def test_sockets_are_for_their_owner_alone(oci):
    assert not os.stat(oci.executable).st_mode & (stat.S_ISUID | stat.S_ISGID)
    abstract = {line.split()[-1] for line in read("/proc/net/unix").splitlines() if "@" in line}
    name = oci.created()
    sockets = [os.path.join(f, n) for f, _, files in os.walk(oci.root) for n in files]
    sockets = [path for path in sockets if stat.S_ISSOCK(os.lstat(path).st_mode)]
    assert sockets, "a created container waits at a socket"
    for path in sockets:
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600, path
        assert stat.S_IMODE(os.lstat(os.path.dirname(path)).st_mode) == 0o700, path
    now = {line.split()[-1] for line in read("/proc/net/unix").splitlines() if "@" in line}
    assert not [line for line in now - abstract if "zone" in line], "an abstract socket"
    # Another user cannot start it. A relative path, as a socket's address has 107 bytes.
    code = "import os, socket, sys; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).connect(sys.argv[2])"
    folder, file = os.path.split(sockets[0])
    words = ("setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", code, folder, file)
    oci.execute(words).says("permission denied")
    assert oci.status(name) == "created"


# P16: the default profile, on every ABI.


@pytest.fixture
def tried(zone_host, compiled):
    """Runs `calls.c` in a zone of the people's face, as engines bring profiles of their own."""
    program = compiled("calls", "-static")

    def run(*options):
        result = zone_host.run("run", "--rm", "-v", f"{program}:/calls:ro", *options, "busybox", "/calls")
        return dict(line.split() for line in result.exits(0).lines)

    return run


def test_default_profile_on_every_abi(tried, runtime):
    if runtime.kind != "zonectl":
        pytest.skip("a profile of zonectl's")
    shown = tried()
    assert len(shown) >= 15
    allowed = {name for name, error in shown.items() if error == "0"}
    assert not allowed, f"the default profile lets pass {allowed}"
    # EPERM; EACCES for what cannot be judged by its arguments; ENOSYS for what programs fall back from, EAFNOSUPPORT.
    others = {name: error for name, error in shown.items() if error not in ("1", "13", "38", "97", "killed")}
    assert not others, f"these came as far as the kernel: {others}"
    if platform.machine() == "x86_64":
        assert {"i386_socketcall", "x32_socket", "x32_getpid"} <= set(shown)
        # The whole ABI, whatever the kernel is built with: the filter comes before the kernel looks the number up.
        assert {error for name, error in shown.items() if name.startswith("x32_")} == {"killed"}, shown


def test_the_calls_do_work_without_a_profile(tried, runtime):
    """That the case above can fail."""
    if runtime.kind != "zonectl":
        pytest.skip("a profile of zonectl's")
    shown = tried("--security-opt", "seccomp=unconfined")
    assert any(shown[name] == "0" for name in ("keyctl", "af_vsock", "af_alg", "userfaultfd", "io_uring_setup")), shown
