# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Volumes, mounts, tmpfs, read-only roots, /dev/shm, devices."""

import os
import stat

import pytest


@pytest.fixture
def volume(zone_host):
    """A folder of the host with a file in it."""
    zone_host.path("volume/file", "from the host\n")
    return zone_host.directory("volume")


def device(host):
    """A harmless character device of this machine that is not among a zone's own."""
    for path in ("/dev/fuse", "/dev/loop-control", "/dev/net/tun"):
        if os.path.exists(path) and stat.S_ISCHR(os.stat(path).st_mode):
            return path
    pytest.skip("this machine has none of /dev/fuse, /dev/loop-control, /dev/net/tun")


@pytest.mark.parametrize("suffix", ["", ":rw"])
def test_volume_is_writable(zone_host, volume, suffix):
    zone_host.zone("cat /v/file; echo new > /v/other", "-v", f"{volume}:/v{suffix}").ok(stdout="from the host\n")
    with open(os.path.join(volume, "other")) as file:
        assert file.read() == "new\n"


def test_volume_read_only(zone_host, volume):
    zone_host.zone("cat /v/file; touch /v/x", "--volume", f"{volume}:/v:ro").exits(1).says("read-only")
    assert os.listdir(volume) == ["file"]


def test_read_only_volume_stays_so_after_remount_and_below(zone_host, volume):
    os.mkdir(os.path.join(volume, "below"))
    script = "mount -o remount,rw /v; umount /v; touch /v/x; touch /v/below/x"
    result = zone_host.zone(script, "-v", f"{volume}:/v:ro").exits(1)
    result.check(result.stderr.lower().count("read-only") == 2, "not both are read-only")


def test_single_file_volume(zone_host, volume):
    file = os.path.join(volume, "file")
    zone_host.zone("cat /etc/passwd; cat /new/place", "-v", f"{file}:/etc/passwd:ro", "-v", f"{file}:/new/place").ok(
        stdout="from the host\n" * 2
    )
    zone_host.zone("echo x > /etc/passwd", "-v", f"{file}:/etc/passwd:ro").exits(1).says("read-only")


def test_volume_over_a_directory_of_the_image(zone_host, volume):
    zone_host.zone("ls /etc", "-v", f"{volume}:/etc").ok(stdout="file\n")


def test_folder_over_a_file_and_file_over_a_folder(zone_host, volume):
    zone_host.zone("true", "-v", f"{volume}:/etc/passwd").fails(125, "/etc/passwd", "directory")
    zone_host.zone("true", "-v", f"{volume}/file:/etc").fails(125, "/etc", "directory")


def test_several_volumes_nest_in_any_order(zone_host, volume):
    file = os.path.join(volume, "file")
    inner = zone_host.directory("inner")
    os.mkdir(os.path.join(volume, "sub"))
    zone_host.path("inner/deep", "")
    script = "ls /a/sub; cat /a/sub/deep"
    zone_host.zone(script, "-v", f"{inner}:/a/sub", "-v", f"{volume}:/a", "-v", f"{file}:/a/sub/deep").ok(
        stdout="deep\nfrom the host\n"
    )


def test_relative_source_is_below_the_current_folder(zone_host, volume):
    zone_host.zone("cat /v/file", "-v", "./volume:/v", cwd=zone_host.folder).ok(stdout="from the host\n")


def test_volume_has_no_set_user_id_programs_by_device_and_no_propagation(zone_host, volume):
    zone_host.start(options=["-v", f"{volume}:/v"])
    with open("/proc/self/mountinfo") as file:
        assert volume not in file.read(), "the volume is mounted on the host"


@pytest.mark.parametrize("option", [["-v", "{}:/v"], ["--mount", "type=bind,src={},dst=/v"]])
def test_missing_source(zone_host, option):
    missing = zone_host.path("missing")
    zone_host.zone("true", option[0], option[1].format(missing)).fails(125, missing, "no such file")
    assert not os.path.exists(missing), "the source was made"


@pytest.mark.parametrize(
    "text", ["", ":", ":/v", "/tmp:", "/tmp:v", "tmp", "/tmp:/v:bad", "/tmp:/v:ro:rw:x", "/tmp:/v:ro,rw", "/tmp:/"]
)
def test_bad_volume(zone_host, text):
    zone_host.zone("true", "-v", text).fails(125, "volume")


@pytest.mark.parametrize(
    "form",
    [
        "type=bind,src={},dst=/v",
        "type=bind,source={},target=/v",
        "type=bind,source={},destination=/v",
        "src={},dst=/v,type=bind",
    ],
)
def test_mount_bind(zone_host, volume, form):
    zone_host.zone("cat /v/file; touch /v/x", "--mount", form.format(volume)).ok(stdout="from the host\n")


@pytest.mark.parametrize("word", ["readonly", "ro", "readonly=true"])
def test_mount_bind_read_only(zone_host, volume, word):
    zone_host.zone("touch /v/x", "--mount", f"type=bind,src={volume},dst=/v,{word}").exits(1).says("read-only")


def test_mount_tmpfs(zone_host):
    script = "echo x > /t/f; grep ' /t ' /proc/mounts | cut -d' ' -f3"
    zone_host.zone(script, "--mount", "type=tmpfs,dst=/t").ok(stdout="tmpfs\n")


@pytest.mark.parametrize(
    "form",
    [
        "",
        "type=bind",
        "type=bind,src=/tmp",
        "type=bind,dst=/v",
        "type=nope,src=/tmp,dst=/v",
        "type=bind,src=/tmp,dst=v",
        "type=bind,src=/tmp,dst=/v,colour=red",
        "type=tmpfs,src=/tmp,dst=/v",
        "type=tmpfs",
        "bind",
        "type=bind,src=/tmp,dst=/",
    ],
)
def test_bad_mount(zone_host, form):
    zone_host.zone("true", "--mount", form).fails(125, "mount")


def test_tmpfs_size(zone_host):
    script = "dd if=/dev/zero of=/t/f bs=64k count=64"
    result = zone_host.zone(script, "--tmpfs", "/t:size=1m").exits(1)
    result.says("no space")
    zone_host.zone("df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2", "--tmpfs", "/t:size=1m").ok(stdout="1024\n")


def test_tmpfs_options(zone_host):
    result = zone_host.zone("grep ' /t ' /proc/mounts; stat -c %a /t", "--tmpfs", "/t:size=2m,mode=700,noexec").exits(0)
    options = result.lines[0].split()[3].split(",")
    result.check({"rw", "noexec", "nosuid", "nodev"} <= set(options), "options are missing")
    result.check(result.lines[1] == "700", "the mode is not 700")


def test_tmpfs_by_default(zone_host):
    result = zone_host.zone("grep ' /t ' /proc/mounts; stat -c %a /t; touch /t/x", "--tmpfs", "/t").exits(0)
    result.check({"nosuid", "nodev"} <= set(result.lines[0].split()[3].split(",")), "options are missing")
    result.check(result.lines[1] == "1777", "the mode is not 1777")


@pytest.mark.parametrize("text", ["", "t", "/t:size=banana", "/t:colour=red", "/t:size=", "/"])
def test_bad_tmpfs(zone_host, text):
    zone_host.zone("true", "--tmpfs", text).fails(125, "tmpfs")


def test_read_only_root(zone_host, volume):
    zone_host.zone("touch /x", "--read-only").exits(1).says("read-only")
    zone_host.zone("touch /etc/x", "--read-only").exits(1).says("read-only")
    script = "touch /t/x /v/x /dev/shm/x && echo x > /dev/null && echo works"
    zone_host.zone(script, "--read-only", "--tmpfs", "/t", "-v", f"{volume}:/v").ok(stdout="works\n")


def test_read_only_root_gets_its_mount_points(zone_host, volume):
    zone_host.zone("cat /new/deep/file; pwd", "--read-only", "-v", f"{volume}:/new/deep", "-w", "/made").ok(
        stdout="from the host\n/made\n"
    )


def test_shared_memory(zone_host):
    result = zone_host.zone(
        "grep ' /dev/shm ' /proc/mounts; stat -c %a /dev/shm; touch /dev/shm/x; df -k /dev/shm | tail -1"
    ).exits(0)
    options = result.lines[0].split()[3].split(",")
    result.check({"rw", "nosuid", "nodev", "noexec"} <= set(options), "options are missing")
    result.check(result.lines[1] == "1777" and result.lines[2].split()[1] == "65536", "not 64 MiB with mode 1777")


def test_device_is_not_there_unless_named(zone_host):
    path = device(zone_host)
    number = os.stat(path).st_rdev
    script = f"test ! -e {path} && mknod /dev/x c {os.major(number)} {os.minor(number)} && : < /dev/x"
    zone_host.zone(script).exits(1).says("not permitted")


def test_device(zone_host):
    path = device(zone_host)
    number = os.stat(path).st_rdev
    script = f"stat -c '%t %T' {path}; : < {path} && : > {path} && echo opens"
    zone_host.zone(script, "--device", path).ok(stdout=f"{os.major(number):x} {os.minor(number):x}\nopens\n")


def test_device_at_another_place(zone_host):
    path = device(zone_host)
    zone_host.zone(": < /dev/deep/mine && echo opens", "--device", f"{path}:/dev/deep/mine").ok(stdout="opens\n")


def test_device_permissions(zone_host):
    path = device(zone_host)
    result = zone_host.zone(
        ": < /dev/x && echo reads; : > /dev/x && echo writes", "--device", f"{path}:/dev/x:r"
    ).exits(1)
    result.check(result.stdout == "reads\n", "not exactly readable").says("not permitted")
    result = zone_host.zone(
        ": > /dev/x && echo writes; : < /dev/x && echo reads", "--device", f"{path}:/dev/x:w"
    ).exits(1)
    result.check(result.stdout == "writes\n", "not exactly writable").says("not permitted")
    number = os.stat(path).st_rdev
    node = f"mknod /n c {os.major(number)} {os.minor(number)} && : < /n"
    zone_host.zone(node, "--device", f"{path}:/dev/x:rm").exits(0)


def test_missing_device(zone_host):
    zone_host.zone("true", "--device", "/dev/no-such-device").fails(125, "/dev/no-such-device", "no such file")


def test_file_is_no_device(zone_host, volume):
    zone_host.zone("true", "--device", f"{volume}/file:/dev/x").fails(125, f"{volume}/file", "device")


@pytest.mark.parametrize(
    "text", ["", ":", "/dev/null:", "/dev/null:x", "/dev/null:/dev/x:q", "/dev/null:/dev/x:", "/dev/null:/dev/x:r:w"]
)
def test_bad_device(zone_host, text):
    zone_host.zone("true", "--device", text).fails(125, "device")


# Propagation. Most hosts share their mounts: systemd makes `/` so. Here only one folder is, in a namespace of its own.


def in_shared_folder(zone_host, script, *options):
    """Runs a script in a mount namespace where $S is a shared mount with the folders x and late; $Z runs a zone."""
    shared = zone_host.directory("shared")
    zone = " ".join(zone_host.command("run", "--rm", *options, zone_host.image, "sh", "-c"))
    begin = f"S={shared}; mount -t tmpfs shared $S; mount --make-shared $S; mkdir $S/x $S/late; Z='{zone}'\n"
    return zone_host.execute(("unshare", "-m", "--propagation", "private", "sh", "-ec", begin + script))


LEAKED = "grep -q \" $S/x \" /proc/self/mountinfo && echo appeared || echo nothing"


@pytest.mark.parametrize("suffix", ["", ":rprivate", ":rslave", ":ro", ":slave"])
def test_mounts_of_the_zone_do_not_appear_on_the_host(zone_host, suffix):
    shared = zone_host.directory("shared")
    in_shared_folder(
        zone_host, f"$Z 'grep -c /srv/x /proc/mounts'; {LEAKED}", "-v", f"{shared}:/srv{suffix}", "--tmpfs", "/srv/x"
    ).ok(stdout="1\nnothing\n")


def test_shared_volume_shares(zone_host):
    shared = zone_host.directory("shared")
    for form in (("-v", f"{shared}:/srv:rshared"), ("--mount", f"src={shared},dst=/srv,bind-propagation=rshared")):
        in_shared_folder(zone_host, f"$Z true; {LEAKED}", *form, "--tmpfs", "/srv/x").ok(stdout="appeared\n")


@pytest.mark.parametrize(("suffix", "seen"), [("", "no"), (":rslave", "yes"), (":slave", "yes"), (":shared", "yes")])
def test_mounts_of_the_host_appear_in_the_zone_if_asked(zone_host, suffix, seen):
    shared = zone_host.directory("shared")
    inside = "touch /srv/ready; until test -e /srv/go; do sleep 0.05; done; test -e /srv/late/file && echo yes || echo no"
    script = f"""$Z '{inside}' &
        until test -e $S/ready; do sleep 0.05; done
        mount -t tmpfs late $S/late; touch $S/late/file $S/go
        wait $!"""
    in_shared_folder(zone_host, script, "-v", f"{shared}:/srv{suffix}").ok(stdout=f"{seen}\n")


def test_the_root_of_a_zone_is_private(zone_host):
    result = zone_host.zone("cut -d' ' -f7 /proc/self/mountinfo").exits(0)
    result.check(set(result.lines) == {"-"}, "a mount is in a peer group")


def test_options_of_a_bind_mount_can_be_taken_back(zone_host):
    folder = zone_host.directory("strict")
    script = f"""mount -t tmpfs -o ro,nosuid,nodev,noexec strict {folder}
        {" ".join(zone_host.command("run", "--rm", "-v", f"{folder}:/s:rw,suid,dev,exec", zone_host.image))} \
        sh -c "grep ' /s ' /proc/mounts | cut -d' ' -f4; grep ' /s ' /proc/self/mountinfo | cut -d' ' -f6" """
    result = zone_host.execute(("unshare", "-m", "--propagation", "private", "sh", "-ec", script)).exits(0)
    # The mount is writable; the file system below it stays what it is.
    result.check(result.lines[1] == "rw,relatime", "the attributes are not gone")


def test_a_read_only_tmpfs_has_mount_points(zone_host, volume):
    script = "cat /t/deep/file; touch /t/x"
    zone_host.zone(script, "--tmpfs", "/t:ro", "-v", f"{volume}:/t/deep").exits(1).says("read-only")
