"""A real Redis on this machine, as an operations team would run it: TLS only, an ACL user, an append-only file."""

import subprocess

from .cluster import run
from .report import Failed, eventually


class RedisServer:
    user = "cloakroom"

    def __init__(self, folder, authority, address, port, password):
        self.address, self.port, self.password = address, port, password
        self._folder = folder / "redis"
        self._folder.mkdir()
        certificate, key = authority.issue("redis", [f"IP:{address}"])
        acl = self._folder / "users.acl"
        # Redis replays its append-only file with the default user's rights: without them it would drop every transaction in it.
        acl.write_text(f"user default off ~* &* +@all\nuser {self.user} on >{password} ~* &* +@all -@dangerous +info\n")
        self._configuration = self._folder / "redis.conf"
        self._configuration.write_text(
            f"""bind {address}
port 0
tls-port {port}
tls-cert-file {certificate}
tls-key-file {key}
tls-ca-cert-file {authority.certificate}
tls-auth-clients no
aclfile {acl}
appendonly yes
appendfsync always
dir {self._folder}
logfile {self._folder}/redis.log
"""
        )
        self._authority = authority
        self._process = None

    @property
    def url(self):
        return f"rediss://{self.address}:{self.port}/0"

    def start(self):
        self._process = subprocess.Popen(
            ["redis-server", str(self._configuration)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(10, lambda: self.command("ping").strip() == "PONG", "Redis answers")

    def stop(self):
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)

    def command(self, *words):
        if self._process.poll() is not None:
            raise Failed(f"Redis ended: {(self._folder / 'redis.log').read_text()[-800:]}")
        done = run(
            "redis-cli", "--tls", "--cacert", self._authority.certificate, "-h", self.address, "-p", self.port,
            "--user", self.user, "--pass", self.password, "--no-auth-warning", *words, timeout=10,
        )  # fmt: skip
        return done.stdout

    def commands(self):
        """How many commands it has run so far."""
        for line in self.command("info", "stats").splitlines():
            if line.startswith("total_commands_processed:"):
                return int(line.split(":")[1])
        raise Failed("no total_commands_processed in INFO stats")
