# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What the soak does to a zone, and what it then expects. Each action returns False where it does not apply."""

import json
import os
import signal
import time

import files
from leaks import alive, read, until
from model import ALIVE, POLICIES, PROGRAM, expect, lost_lines, status_of

# Seconds. Long, as the machine may be busy; what is in order is seen at once.
PATIENCE = 40


def becomes(driver, zone, *statuses):
    last = []

    def reached():
        last[:] = [status_of(driver, zone)]
        return last[0] in statuses

    expect(until(reached, PATIENCE, 0.1), f"is {last[0]}, not {' or '.join(statuses)}")
    return last[0]


def check(driver, zone):
    """What must hold whatever was done."""
    found = zone.first_processes()
    expect(len(found) <= 1, f"runs {len(found)} times: processes {found}")
    if zone.name is None:
        expect(not found, f"is removed, but process {found} runs")
        return
    # `creating` while a keeper starts it again.
    status = becomes(driver, zone, *ALIVE, "stopped", "restarting")
    if zone.wanted == "stopped":
        expect(status == "stopped", f"was stopped, but is {status}")
        expect(not found, f"was stopped, but process {found} runs")
    if zone.wanted == "running" and zone.has_keeper:
        becomes(driver, zone, "running", "restarting", "paused")


# --- People's verbs --------------------------------------------------------------------------------------------------


def definition(zone, chance):
    """Options of a new zone."""
    zone.policy = chance.choice(POLICIES)
    zone.has_terminal = chance.random() < 0.25
    zone.has_health = chance.random() < 0.4
    zone.is_rotated = chance.random() < 0.2
    words = ["--restart", zone.policy, "--stop-timeout", "20"]
    if zone.has_terminal:
        words += ["-t"]
    if zone.has_health:
        words += ["--health-cmd", "test ! -e /sick", "--health-interval", "1s", "--health-retries", "1"]
    if zone.is_rotated:
        words += ["--log-opt", "max-size=4k", "--log-opt", "max-file=2"]
    if chance.random() < 0.3:
        words += ["-m", "64M", "--pids-limit", "50"]
    return words


def make(driver, zone, chance):
    if zone.name:
        return False
    zone.name = zone.new_name()
    words = definition(zone, chance)
    command = ["--name", zone.name, *words, "busybox", "sh", "-c", PROGRAM, zone.mark]
    if chance.random() < 0.7:
        driver.must("run", "-d", *command)
        zone.wanted, zone.has_keeper = "running", True
        expect(len(zone.first_processes()) == 1, "does not run after `run -d`")
    else:
        driver.must("create", *command)
        zone.wanted = "stopped"
    return True


def start(driver, zone, chance):
    if not zone.name:
        return False
    was = zone.first_processes()
    driver.must("start", zone.name)
    zone.wanted, zone.has_keeper = "running", True
    now = zone.first_processes()
    zone.may_end = zone.may_end and (now == was or not now)
    if zone.may_end:
        # `start` left alone what runs, and the signal of an earlier `stop` is on its way to it or has just ended it. Only a
        # policy that starts it after any end brings it back.
        if zone.policy not in ("always", "unless-stopped"):
            zone.wanted = None
        return True
    if was and alive(was[0]):
        expect(now == was, f"ran as {was}, but `start` made it {now}")
    becomes(driver, zone, "running", "paused", "restarting")
    return True


def stop(driver, zone, chance):
    if not zone.name:
        return False
    was = status_of(driver, zone)
    driver.must("stop", zone.name)
    zone.wanted = "stopped"
    expect(status_of(driver, zone) == "stopped", "is not stopped after `stop`")
    # A paused one ends by the signal, too, once it is thawed.
    if was == "running" and zone.has_keeper:
        code = driver.record(zone.name).get("exitCode")
        expect(code is not None, "nobody knows the exit status of a zone with a keeper")
    zone.has_keeper = zone.may_end = False
    return True


def restart(driver, zone, chance):
    if not zone.name:
        return False
    was = zone.first_processes()
    driver.must("restart", zone.name)
    zone.wanted, zone.has_keeper, zone.may_end = "running", True, False
    now = zone.first_processes()
    expect(len(now) <= 1 and now != was or not was, f"ran as {was}, and after `restart` as {now}")
    return True


def execute(driver, zone, chance):
    if not runs(driver, zone):
        return False
    status, out, err = driver.call("exec", zone.name, "sh", "-c", "echo said; exit 7")
    if runs(driver, zone) and not (status == 7 and out == "said\n"):
        # It may have ended meanwhile and run again: once more, and then it must work.
        status, out, err = driver.call("exec", zone.name, "sh", "-c", "echo said; exit 7")
        expect(not runs(driver, zone) or (status == 7 and out == "said\n"), f"exec: {status}, {out!r}, {err!r}")
    return True


def runs(driver, zone):
    return zone.name is not None and zone.wanted == "running" and status_of(driver, zone) == "running"


def pause(driver, zone, chance):
    if not runs(driver, zone) or zone.has_health:
        return False
    status, _, err = driver.call("pause", zone.name)
    if status == 0:
        expect(status_of(driver, zone) == "paused", "is not paused after `pause`")
        if chance.random() < 0.7:
            time.sleep(chance.random())
            resume(driver, zone, chance)
    else:
        expect(not zone.has_keeper or status_of(driver, zone) != "running", f"pause: {err}")
    return True


def resume(driver, zone, chance):
    if not zone.name or status_of(driver, zone) != "paused":
        return False
    driver.must("resume", zone.name)
    # What waited for it in the meantime may be a signal to end.
    if not zone.may_end:
        expect(status_of(driver, zone) == "running", "does not run after `resume`")
    return True


def rename(driver, zone, chance):
    if not zone.name:
        return False
    new = zone.new_name()
    if status_of(driver, zone) == "stopped" and zone.wanted == "stopped":
        driver.must("rename", zone.name, new)
        expect(zone.name not in driver.listed(), "is listed by its old name, too")
        zone.name = new
    elif zone.wanted == "running" and zone.has_keeper:
        status, _, _ = driver.call("rename", zone.name, new)
        expect(status != 0, "was renamed while it ran or was about to")
    return True


def change(driver, zone, chance):
    if not zone.name:
        return False
    policy = chance.choice(POLICIES)
    memory = f"{chance.randrange(32, 128)}M"
    driver.must("set", "--restart", policy, "--memory", memory, "--cpus", f"{chance.uniform(0.5, 2):.2f}", zone.name)
    zone.policy = policy
    return True


def remove(driver, zone, chance):
    if not zone.name:
        return False
    logs(driver, zone)
    if zone.wanted == "stopped" and chance.random() < 0.5:
        driver.must("rm", zone.name)
    else:
        driver.must("rm", "-f", zone.name)
    expect(zone.name not in driver.listed(), "is listed after `rm`")
    expect(not zone.first_processes(), "runs after `rm`")
    zone.forget()
    return True


# --- Ends ------------------------------------------------------------------------------------------------------------


def after_its_end(driver, zone, code, was):
    """What must follow when the first process `was` ended by itself; `code`: as a shell shows it."""
    comes_back = zone.comes_back(code)
    if comes_back:
        # Ever later, up to a minute: about to be started is as good.
        expect(
            until(lambda: status_of(driver, zone) == "restarting" or zone.first_processes() not in ([], [was]), PATIENCE),
            f"ended with {code}, and is not started again")
    elif comes_back is False:
        becomes(driver, zone, "stopped")
        if zone.has_keeper:
            until(lambda: driver.record(zone.name).get("exitCode") is not None, 5)
            found = driver.record(zone.name).get("exitCode")
            expect(found == code, f"ended with {code}, but {found} is recorded")
        zone.wanted, zone.has_keeper = "stopped", False
    else:
        zone.wanted = None


def quit_by_itself(driver, zone, chance):
    if not runs(driver, zone) or zone.interruptions and not zone.has_keeper:
        return False
    processes = zone.first_processes()
    if len(processes) != 1:
        return False
    code = chance.choice([0, 0, 3, 42])
    status, _, _ = driver.call("exec", zone.name, "sh", "-c", f"echo {code} >/quit.new; mv /quit.new /quit")
    if status != 0:
        return True
    # Its health check, or an end of its own, may be faster.
    expect(until(lambda: zone.first_processes() != processes, PATIENCE), "does not end though told so")
    if zone.has_health:
        zone.wanted = None if not zone.comes_back(code) else "running"
        return True
    after_its_end(driver, zone, code, processes[0])
    return True


def kill_zone(driver, zone, chance):
    if not runs(driver, zone):
        return False
    processes = zone.first_processes()
    if len(processes) != 1:
        return False
    os.kill(processes[0], signal.SIGKILL)
    expect(until(lambda: not alive(processes[0]), PATIENCE), f"process {processes[0]} does not end, even by SIGKILL")
    if chance.random() < 0.3:
        # At once, while its keeper still clears up.
        return start(driver, zone, chance)
    after_its_end(driver, zone, 137, processes[0])
    return True


def keeper_of(driver, zone):
    pid = driver.record(zone.name).get("keeper", {}).get("pid", 0)
    return pid if read(f"/proc/{pid}/cmdline").startswith("zonectl: ") and alive(pid) else None


def kill_keeper(driver, zone, chance):
    if not runs(driver, zone):
        return False
    keeper, processes = keeper_of(driver, zone), zone.first_processes()
    if not keeper or len(processes) != 1:
        return False
    try:
        os.kill(keeper, signal.SIGKILL)
    except ProcessLookupError:
        return False
    until(lambda: not alive(keeper), 5)
    zone.interruptions += 1
    zone.has_keeper, zone.wanted = False, None
    if zone.has_terminal:
        return True
    now = zone.first_processes()
    record = driver.record(zone.name)
    # Killed between two runs, it has nothing that goes on.
    if record["phase"] == "running" and record["process"]["pid"] == processes[0]:
        expect(now == processes, f"ran as {processes}, and without its keeper as {now}")
        if chance.random() < 0.5:
            return start(driver, zone, chance)
    return True


def kill_both(driver, zone, chance):
    if not runs(driver, zone):
        return False
    victims = [pid for pid in (keeper_of(driver, zone), *zone.first_processes()) if pid]
    chance.shuffle(victims)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    zone.interruptions += 1
    zone.has_keeper, zone.wanted = False, None
    return True


def make_sick(driver, zone, chance):
    if not runs(driver, zone) or not zone.has_health or not zone.has_keeper or zone.policy == "no":
        return False
    processes = zone.first_processes()
    if driver.call("exec", zone.name, "touch", "/sick")[0] != 0:
        return True
    expect(until(lambda: zone.first_processes() != processes, PATIENCE), "is not healthy, and is not started again")
    if ":" in zone.policy:
        zone.wanted = None
    return True


# --- zonectl itself --------------------------------------------------------------------------------------------------


def interrupt(driver, zone, chance):
    """A verb whose zonectl is killed while it works, and perhaps the keeper that it has just made."""
    verbs = ["start", "stop", "restart", "rm", "set", "rename", "pause"] if zone.name else ["run", "create"]
    verb = chance.choice(verbs)
    old, new = zone.name, zone.new_name()
    words = {
        "run": ["run", "-d", "--name", new], "create": ["create", "--name", new], "rm": ["rm", "-f", old],
        "set": ["set", "--memory", "48M", old], "rename": ["rename", old, new],
    }.get(verb, [verb, old])
    if verb in ("run", "create"):
        zone.name = new
        words += [*definition(zone, chance), "busybox", "sh", "-c", PROGRAM, zone.mark]
    process = driver.start(*words)
    time.sleep(chance.choice([0.002, 0.005, 0.01, 0.02, 0.05]) * chance.random() * 2)
    process.kill()
    process.communicate()
    name = zone.name
    if chance.random() < 0.4:
        zone.interruptions += 1
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = read(f"/proc/{pid}/cmdline").rstrip("\0 ")
            if words in (f"zonectl: {name}", f"zonectl: {new}"):
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
    zone.note(f"(killed {verb})")
    zone.has_keeper, zone.wanted = False, None
    zone.may_end = zone.may_end or verb in ("stop", "restart", "rm")
    recover(driver, zone, [old, new])
    return True


def recover(driver, zone, names):
    """Finds out what became of it: a keeper may go on with what its zonectl began."""
    def settled():
        found = [n for n in names if n and n in (listed := driver.listed())]
        return found, [listed[n]["status"] for n in found]

    until(lambda: "creating" not in settled()[1], PATIENCE, 0.1)
    time.sleep(0.1)
    found, statuses = settled()
    expect("creating" not in statuses, f"is still being created: {found}")
    expect(len(found) <= 1, f"is listed twice: {found}")
    if not found:
        zone.forget()
        return
    zone.name = found[0]
    zone.wanted = None
    # Without a definition its making was interrupted: nothing but its removal is left.
    if not os.path.exists(f"{driver.store}/zones/{zone.name}/definition.json"):
        driver.must("rm", "-f", zone.name)
        zone.forget()
    else:
        zone.policy = json.loads(read(f"{driver.store}/zones/{zone.name}/definition.json")).get("restart", "no")


def quarrel(driver, zone, chance):
    """Several verbs at the same time: whoever wins, it runs once at most."""
    if not zone.name:
        return False
    verbs = [chance.choice(["start", "stop", "restart", "start", "pause", "resume", "kill"]) for _ in range(4)]
    zone.note(f"({', '.join(verbs)})")
    processes = [driver.start(verb, zone.name) for verb in verbs]
    for verb, process in zip(verbs, processes):
        _, err = process.communicate(timeout=90)
        expect(process.returncode >= 0, f"{verb} died of signal {-process.returncode}: {err}")
    zone.has_keeper, zone.wanted, zone.may_end = False, None, True
    return True


# --- Logs ------------------------------------------------------------------------------------------------------------


def logs(driver, zone):
    """No line is missing, but for what a killed keeper had read and not yet written."""
    if not os.path.exists(f"{driver.store}/zones/{zone.name}/log"):
        # Never started.
        return None
    text = driver.must("logs", zone.name)
    gaps, last = lost_lines(text, has_overlap=True)
    expect(len(gaps) <= zone.interruptions, f"lines are missing from its log: after {gaps}, {zone.interruptions} killed")
    return last


def settle_all(driver, zone):
    """The end of one zone: stopped, complete, removed."""
    if not zone.name:
        return
    check(driver, zone)
    if status_of(driver, zone) != "stopped":
        # For somebody to write what is in the pipes.
        driver.must("start", zone.name)
    driver.must("stop", zone.name)
    expect(status_of(driver, zone) == "stopped", "is not stopped after `stop`")
    last = logs(driver, zone)
    written = read(f"{driver.store}/zones/{zone.name}/upper/n").strip()
    if last is not None and written and not zone.has_terminal and not zone.interruptions:
        expect(last >= int(written), f"wrote line {written}, but its log ends with {last}")
    driver.must("rm", zone.name)
    expect(zone.name not in driver.listed(), "is listed after `rm`")
    zone.forget()


ACTIONS = {
    "make": (make, 30), "start": (start, 16), "stop": (stop, 6), "restart": (restart, 4), "exec": (execute, 8),
    "pause": (pause, 5), "resume": (resume, 3), "rename": (rename, 4), "set": (change, 5), "rm": (remove, 4),
    "quit": (quit_by_itself, 6), "kill zone": (kill_zone, 6), "kill keeper": (kill_keeper, 6),
    "kill both": (kill_both, 2), "sick": (make_sick, 3), "kill zonectl": (interrupt, 5), "quarrel": (quarrel, 3),
    **files.ACTIONS,
}
