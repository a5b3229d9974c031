"""What a web server is told of the site: the lines that `spica setup` writes for httpd, lighttpd and nginx.

They belong into the server's own virtual host, the one with the certificate. Whole files to begin with are in etc/.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from spicad.config import Settings

# One program for each request, or `spica serve` behind the server: on a port, or as spica-web.service.
CGI, PROXY, SOCKET = "cgi", "proxy", "socket"
WEB_SOCKET = "/run/spica/web.socket"  # of spica-web.socket
SERVERS = ("httpd", "lighttpd", "nginx")

TEXTS = {
    ("httpd", CGI): """\
ScriptAlias "{path}/" "{program}/"
<Location "{path}/">
    SetEnv SPICA_CONF {conf}
    SetEnv LANG C.UTF-8
    LimitRequestBody 524288
    Require all granted
</Location>
""",
    ("httpd", PROXY): """\
ProxyPass "{path}/" "http://{listen}{path}/"
<Location "{path}/">
    LimitRequestBody 524288
    Require all granted
</Location>
""",
    ("lighttpd", CGI): """\
server.modules += ( "mod_alias", "mod_cgi", "mod_setenv" )
$HTTP["url"] =~ "^{path}/" {{
    alias.url  = ( "{path}/" => "{program}/" )
    cgi.assign = ( "spica.cgi" => "" )
    setenv.set-environment = ( "SPICA_CONF" => "{conf}", "LANG" => "C.UTF-8" )
    server.max-request-size = 512  # kB
}}
""",
    ("lighttpd", PROXY): """\
server.modules += ( "mod_proxy" )
$HTTP["url"] =~ "^{path}/" {{
    proxy.server = ( "" => (( "host" => "{host}", "port" => {port} )) )
    server.max-request-size = 512  # kB
}}
""",
    ("httpd", SOCKET): """\
ProxyPass "{path}/" "unix:{socket}|http://localhost{path}/"
<Location "{path}/">
    LimitRequestBody 524288
    Require all granted
</Location>
""",
    ("lighttpd", SOCKET): """\
server.modules += ( "mod_proxy" )
$HTTP["url"] =~ "^{path}/" {{
    proxy.server = ( "" => (( "host" => "{socket}" )) )
    server.max-request-size = 512  # kB
}}
""",
    ("nginx", SOCKET): """\
location {path}/ {{
    proxy_pass http://unix:{socket}:;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_buffering off;  # a tar of many GB is not kept on this machine's disk first
    client_max_body_size 512k;
}}
""",
    ("nginx", PROXY): """\
location {path}/ {{
    proxy_pass http://{listen};
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_buffering off;  # a tar of many GB is not kept on this machine's disk first
    client_max_body_size 512k;
}}
""",
}


def snippet(server: str, way: str, settings: Settings, program: Path) -> str:
    """nginx runs no CGI: there it is a proxy."""
    path = urlsplit(settings.web.address).path.rstrip("/")
    host, _, port = settings.web.listen.rpartition(":")
    text = TEXTS.get((server, way)) or TEXTS[(server, PROXY)]
    where = urlsplit(settings.web.address).netloc
    head = f"# {settings.web.address}, by spica setup. It belongs into the virtual host of {where}.\n"
    return head + text.format(
        path=path,
        listen=settings.web.listen,
        host=host.strip("[]"),
        port=port,
        socket=WEB_SOCKET,
        conf=settings.source,
        program=program,
    )
