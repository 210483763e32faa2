"""nginx: the app behind every proxy, the quick authority, and four of the proxies."""

import re
from string import Template

from .process import wait_for_port

FRAME = """
$MODULES
worker_processes 1; daemon off; error_log stderr crit; pid $FOLDER/pid;
events { worker_connections 24000; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path $FOLDER/b; proxy_temp_path $FOLDER/p; fastcgi_temp_path $FOLDER/f; uwsgi_temp_path $FOLDER/u; scgi_temp_path $FOLDER/s;
  $SERVERS
}
"""

APP = """
server {
  listen 127.0.0.1:$PORT;
  default_type application/octet-stream;
  location / { return 200 "$KILOBYTE"; }
  location /body/ { root $FOLDER; }
}
"""


def start_nginx(processes, folder, servers, core, modules="", **values):
    """`$NAMES` in capitals are filled in; nginx's own variables stay."""
    folder.mkdir()
    config = folder / "nginx.conf"
    filled = Template(servers).safe_substitute(values, FOLDER=folder)
    config.write_text(Template(FRAME).safe_substitute(MODULES=modules, FOLDER=folder, SERVERS=filled))
    pid = processes.start(["nginx", "-c", config, "-p", folder], core, log=folder / "log")
    for port in re.findall(r"listen 127\.0\.0\.1:(\d+)", filled):
        wait_for_port(int(port), f"nginx ({folder.name})")
    return pid


def start_app(processes, folder, core, port):
    """A kilobyte at `/`, and larger bodies below `/body/`."""
    pid = start_nginx(processes, folder / "app", APP, core, PORT=port, KILOBYTE="x" * 1024)
    content = folder / "app" / "body"
    content.mkdir()
    for name, size in {"64k": 64 << 10, "1m": 1 << 20}.items():
        (content / name).write_bytes(b"x" * size)
    return pid
