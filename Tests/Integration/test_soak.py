# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Half a minute of `make soak`."""

import pathlib
import os
import shutil
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


# The same commands each time; the moments differ.
SEED = "7"


@pytest.mark.parametrize("network", ["none", "zone0"])
def test_half_a_minute_of_random_use_loses_and_leaves_nothing(executable, alone, network):
    if network != "none" and not (shutil.which("nft") and shutil.which("dnsmasq")):
        pytest.skip("networks of zones need nft and dnsmasq (Debian packages nftables, dnsmasq-base)")
    script = 'ip link set lo up && exec "$@"'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, "sh", sys.executable, REPOSITORY / "Tests/Soak/soak.py", "--minutes", "0.5",
         "--zones", "12", "--workers", "3", "--seed", SEED],
        env={**os.environ, "ZONECTL": str(executable), "ZONECTL_NETWORK": network}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "0 violations, 0 left behind" in done.stdout
