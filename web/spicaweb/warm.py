"""The near end of a warm site: how spica.cgi asks a site that an earlier request left running, and leaves one behind.

Starting Python and loading the site is nine tenths of what a page costs as CGI. The request itself goes on as ever, by
SCGI (Cantrell, 2008) over a socket that only this Unix user can reach. lingering.py is the far end. Light to import:
it stands before everything else.
"""

import os
import stat
import sys

TYPE_CHECKING = False  # typing takes longer to load than all this
if TYPE_CHECKING:
    import _socket

MOST_BYTES = 1 << 20
PIECE = 1 << 16
READY_S = 5.0  # one that is stopped or overrun must not hold up the visitor
READY = b"+"  # what the far end says first, unless it answers for another site or for code that was changed since
ENDED = b"Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nThe site ended meanwhile. Try again.\n"


def folder() -> str:
    """Of the sockets: one for each Unix user, nobody else's."""
    return f"/tmp/spica-site-{os.geteuid()}"  # noqa: S108 # whose it is, is_ours looks


def is_ours(path: str) -> bool:
    """Whether `path` is a folder that nobody else can put anything into."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def socket_path(root: str) -> str:
    """Of the site of this code and this spica.conf. That a socket of this name is the right one, the far end judges."""
    from zlib import crc32

    return f"{folder()}/{crc32(identity(root)):08x}"


def identity(root: str) -> bytes:
    return f"{os.path.realpath(root)}\n{os.environ.get('SPICA_CONF', '')}".encode()


def is_answered(root: str) -> bool:
    """Whether a warm site has answered this request, to standard output. False: nothing was read nor written yet."""
    length = os.environ.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MOST_BYTES or not is_ours(folder()):
        return False
    import _socket  # the module over it takes 5 ms

    with_far_end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with_far_end.settimeout(READY_S)
    try:
        with_far_end.connect(socket_path(root))
        with_far_end.sendall(_netstring(root))
        if with_far_end.recv(1) != READY:
            return False
    except OSError:
        return False
    with_far_end.settimeout(None)
    _pass_on(with_far_end, int(length))
    return True


def _pass_on(with_far_end: "_socket.socket", length: int) -> None:
    """The form there, the answer back."""
    piece = b""
    try:
        if length:
            with_far_end.sendall(sys.stdin.buffer.read(length))
        with_far_end.shutdown(1)  # SHUT_WR: nobody waits for the rest of a form that was broken off
        piece = with_far_end.recv(PIECE)
    except OSError:
        pass  # killed meanwhile, as when it says nothing
    piece = piece or ENDED
    while piece:
        sys.stdout.buffer.write(piece)
        piece = with_far_end.recv(PIECE)


def _netstring(root: str) -> bytes:
    """The head of an SCGI request: the environment, CONTENT_LENGTH first, and whose site is meant."""
    head = {"CONTENT_LENGTH": os.environ.get("CONTENT_LENGTH") or "0", "SCGI": "1"}
    environment = {**head, **{name: value for name, value in os.environ.items() if name not in head}}
    pairs = b"".join(os.fsencode(name) + b"\0" + os.fsencode(value) + b"\0" for name, value in environment.items())
    pairs += b"SPICA_SITE\0" + identity(root) + b"\0"
    return b"%d:%s," % (len(pairs), pairs)


def leave_behind(root: str) -> None:
    """Starts the far end, which goes on after this request; one that is there already makes it end at once."""
    command = [sys.executable, "-m", "spicaweb.lingering", root]
    path = os.pathsep.join(each for each in sys.path if each)
    environment = {"PYTHONPATH": path}
    kept = ("PATH", "SPICA_CONF", "PYTHONPYCACHEPREFIX", "LANG", "LC_ALL")
    environment |= {name: os.environ[name] for name in kept if name in os.environ}
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, each) for each in (0, 1, 2)]
    os.posix_spawn(sys.executable, command, environment, file_actions=actions, setsid=True)
