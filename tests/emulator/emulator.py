"""An emulator of AWS on this machine: ministack, on loopback, by TLS, and with the rights of roles enforced."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3

from recorder import Recorder

REGION = "us-east-1"
# Of ministack, unless it is told another.
ACCOUNT_ID = "000000000000"
# The emulator takes these for the account itself; what a function may do, its role says.
ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
STARTS_WITHIN = 60
ENDS_WITHIN = 15


class Ministack:
    """With a certificate of its own, so that what is refused without TLS is not, and a recorder before it."""

    domain = "execute-api.localhost"

    def __init__(self, directory):
        self.directory = Path(directory)
        self.certificate = str(self.directory / "certificate.pem")
        self.log = self.directory / "ministack.log"
        key = str(self.directory / "key.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=ministack", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:*.localhost"]
            + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )
        port = free_port()
        self.endpoint = f"https://127.0.0.1:{port}"
        self.recorder = Recorder(self.certificate, key, port)
        # Nothing of the caller's: neither its credentials nor its configuration. Functions are given all of it.
        environment = {
            **ACCOUNT,
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": self.certificate,
            "MINISTACK_SSL_KEY": key,
            # The one certificate that functions trust, whichever of these their client reads.
            "AWS_CA_BUNDLE": self.certificate,
            "SSL_CERT_FILE": self.certificate,
            # Of functions; we go on talking to it directly.
            "AWS_ENDPOINT_URL": self.recorder.url,
            "AUTH": "true",
            # Listeners that would be open to everybody.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }
        command = Path(sys.executable).with_name("ministack")
        # A group of its own, which the functions that it starts belong to.
        self.process = subprocess.Popen(
            [command], env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
        )

    def environment(self):
        """What a client of AWS finds it by."""
        return {**ACCOUNT, "AWS_ENDPOINT_URL": self.endpoint, "AWS_CA_BUNDLE": self.certificate}

    def wait(self):
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                boto3.client("sts", endpoint_url=self.endpoint, verify=self.certificate, **KEYS).get_caller_identity()
                return
            except Exception as error:  # Whatever it is that does not work yet.
                reason = error
                time.sleep(0.2)
        else:
            raise AssertionError(f"the emulator did not answer within {STARTS_WITHIN} s: {reason}")
        raise AssertionError(f"the emulator ended with {self.process.returncode}")

    def told(self):
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Functions that have not ended with it.
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.recorder.stop()


class Running:
    """An emulator that somebody else has started: LocalStack, for one."""

    domain = "execute-api.localhost.localstack.cloud"
    certificate = True
    # Its functions ask it directly.
    recorder = None

    def __init__(self, endpoint):
        self.endpoint = endpoint.rstrip("/")

    def environment(self):
        return {**ACCOUNT, "AWS_ENDPOINT_URL": self.endpoint}

    def wait(self):
        boto3.client("sts", endpoint_url=self.endpoint, **KEYS).get_caller_identity()

    def told(self):
        return ""

    def stop(self):
        pass


KEYS = {
    "aws_access_key_id": ACCOUNT["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": ACCOUNT["AWS_SECRET_ACCESS_KEY"],
    "region_name": REGION,
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
