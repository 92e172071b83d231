# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Half a minute of `make soak`."""

import pathlib
import os
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


# The same commands each time; the moments differ.
SEED = "7"


def test_half_a_minute_of_random_use_loses_and_leaves_nothing(executable, alone):
    done = subprocess.run(
        [sys.executable, REPOSITORY / "Tests/Soak/soak.py", "--minutes", "0.5", "--zones", "12", "--workers", "3",
         "--seed", SEED], env={**os.environ, "ZONECTL": str(executable)}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "0 violations, 0 left behind" in done.stdout
