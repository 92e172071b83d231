# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""A registry on loopback for one test: Debian's docker-registry, plain or with TLS and passwords."""

import collections
import http.server
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

# Whatever proxy the machine has: this is loopback.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
USER, PASSWORD = "ann", "secret word"


def needs(*programs):
    """Skips the test where one of the programs is missing, with the name of its package."""
    packages = {"htpasswd": "apache2-utils"}
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian package {packages.get(program, program)})")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """A running registry; `host` is its name in references."""

    def __init__(self, folder, secure=False):
        needs("docker-registry", "skopeo")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.secure = secure
        self.port = _free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.data = self.folder / "data"
        lines = [
            "version: 0.1",
            "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {self.data}}}}}",
            "http:",
            f"  addr: {self.host}",
        ]
        if secure:
            lines += self._secrets()
        (self.folder / "config.yml").write_text("\n".join(lines) + "\n")
        self.log = self.folder / "log"
        self.process = None
        self.start()

    def _secrets(self):
        needs("openssl", "htpasswd")
        self.certificate = self.folder / "ca.crt"
        key = self.folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-keyout", key, "-out", self.certificate, "-days", "3650", "-subj", "/CN=127.0.0.1"]
            + ["-addext", "subjectAltName=IP:127.0.0.1"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        made = subprocess.run(
            ["htpasswd", "-Bbn", "-C", "4", USER, PASSWORD], check=True, capture_output=True, text=True, timeout=60
        )
        (self.folder / "passwords").write_text(made.stdout)
        return [
            f"  tls: {{certificate: {self.certificate}, key: {key}}}",
            "auth:",
            f"  htpasswd: {{realm: test, path: {self.folder / 'passwords'}}}",
        ]

    def start(self):
        """Starts it and waits until it takes connections."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", self.folder / "config.yml"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, f"docker-registry ended: {self.log.read_text()[-500:]}"
            time.sleep(0.02)
        raise AssertionError("docker-registry takes no connections")

    def stop(self):
        """Ends it."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def put(self, layout, reference, name):
        """Puts an image of a layout there, by skopeo alone."""
        words = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        if self.secure:
            words += ["--dest-creds", f"{USER}:{PASSWORD}"]
        made = subprocess.run(
            [*words, f"oci:{layout}:{name}", f"docker://{self.host}/{reference}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr

    def put_document(self, repository, tag, text, media):
        """Puts a manifest or an index there, byte by byte. Plain registries only."""
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        request = urllib.request.Request(url, data=text, method="PUT", headers={"Content-Type": media})
        with _direct.open(request, timeout=30):
            pass

    def blob(self, digest):
        """Where it keeps a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


class Gate:
    """Stands before a registry, counts what is asked for, and can hold a blob back in the middle."""

    def __init__(self, registry):
        gate = self
        self.held = set()
        self.counts = collections.Counter()
        self.opened = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                # What is accepted comes in many lines.
                names = {name.lower() for name in self.headers.keys()} - {"host", "accept-encoding"}
                headers = {name: ", ".join(self.headers.get_all(name)) for name in names}
                request = urllib.request.Request(f"http://{registry.host}{self.path}", headers=headers)
                try:
                    answer = _direct.open(request, timeout=30)
                except urllib.error.HTTPError as error:
                    answer = error
                data = answer.read()
                self.send_response(answer.status)
                for name in ("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                digest = self.path.rpartition("/")[2]
                gate.counts[digest] += 1
                try:
                    if digest in gate.held:
                        self.wfile.write(data[: len(data) // 2])
                        self.wfile.flush()
                        gate.opened.wait(30)
                        data = data[len(data) // 2 :]
                    self.wfile.write(data)
                except OSError:
                    pass  # Who asked is gone: killed by the test.

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def open(self):
        """Lets go what is held, now and later."""
        self.held.clear()
        self.opened.set()

    def close(self):
        """Ends it."""
        self.open()
        self.server.shutdown()
        self.server.server_close()


def environment(folder):
    """Variables under which nobody's credentials or configuration but the test's own are found."""
    home = pathlib.Path(folder) / "home"
    home.mkdir(exist_ok=True)
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": os.environ["PATH"]}
