"""Runs the agent's Python inside the sandbox. Embedded in the binary; started as the only program of its process.

Descriptor 3 holds what to do, as frames; descriptor 4 takes one report per snippet. Between reading and compiling, the
seccomp filters are installed, so nothing of the code, not even its syntax, is looked at before the sandbox is closed.

Nothing said here is trusted outside: the code owns this interpreter. How the process ended is for the kernel to say.
Imports are few on purpose: each costs milliseconds in every run.
"""

import sys

import _ast
import posix
from time import perf_counter

FILE = "<code>"
PARSE_ONLY = 0x400  # ast.PyCF_ONLY_AST; `ast` itself costs milliseconds
OWN_PID_MARK = (0x5EC0_0B1D).to_bytes(4, sys.byteorder)  # also in seccomp.rs
SHOWN_FRAMES = 8
SHOWN_CHARACTERS = 2000

# Advice to the model, not a wall: the walls are the kernel's.
STANDARD = (
    "__future__ abc array base64 bisect calendar cmath collections contextlib copy csv dataclasses datetime decimal "
    "enum fractions functools gc hashlib heapq io itertools json keyword math numbers operator pprint queue random re "
    "secrets signal statistics string struct sys textwrap threading time timeit traceback types typing unicodedata "
    "uuid warnings zlib"
).split()


def main():
    frames = read_frames(3)
    run_id, mode, narrow, allowing, site, packages, guard, memory_mib = frames[:8]
    snippets = frames[8:]
    posix.environ.pop(b"PYTHONHASHSEED", None)  # was for this interpreter, is no business of the code
    sys.path[:] = [path for path in sys.path if path] + lines(site)
    sys.argv[:] = ["code.py"]
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)  # 2000! is a fair question; processor time is limited anyway
    allowed = STANDARD + lines(packages) if guard == b"on" else None
    if allowing:
        install(narrow, allowing)
    if mode == b"batch":
        batch(run_id, snippets, allowed, memory_mib)
    sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    sys.stderr = sys.stdout
    code, error = run(snippets[0], allowed, memory_mib)
    report(run_id, code, b"", error, 0)
    posix._exit(code)


def batch(run_id, snippets, allowed, memory_mib):
    """Snippets that we wrote ourselves, one after the other in this interpreter, each with fresh names."""
    import io

    recursion_limit = sys.getrecursionlimit()
    for snippet in snippets:
        started = perf_counter()
        printed = io.BytesIO()
        sys.stdout = sys.stderr = stream = io.TextIOWrapper(printed, "utf-8", "backslashreplace")
        code, error = run(snippet, allowed, memory_mib)
        sys.setrecursionlimit(recursion_limit)
        stream.flush()
        report(run_id, code, printed.getvalue(), error, int((perf_counter() - started) * 1000))
    posix._exit(0)


def run(source, allowed, memory_mib):
    """The exit code and, unless all went well, the error as the planner will read it."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    names = module.__dict__
    names["__builtins__"] = builtins_for(allowed)
    text = ""
    try:
        text, tree = parse(source.decode())
        body = tree.body
        last = body.pop() if body and isinstance(body[-1], _ast.Expr) else None
        if body:
            exec(compile(tree, FILE, "exec", dont_inherit=True), names)
        if last is not None:  # compiled as at the prompt: the value is printed, unless it is None
            exec(compile(_ast.Interactive([last]), FILE, "single", dont_inherit=True), names)
        code, error = finish()
    except SystemExit as exit:
        code, error = exit_code(exit)
    except BaseException as raised:
        code, error = 1, describe(raised, text.split("\n"), memory_mib)
    try:
        sys.stdout.flush()
    except BaseException as raised:
        if error is None:
            code, error = 1, describe(raised, text.split("\n"), memory_mib)
    return code, error


def finish():
    """What the interpreter does at its end: waits for threads."""
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    return 0, None


def exit_code(exit):
    value = exit.code
    if value is None or value == 0:
        return 0, None
    if isinstance(value, int):
        return value & 0xFF, "SystemExit: %d" % value
    return 1, "SystemExit: " + shorten(safe_str(value))


# --- reading what a model writes ---------------------------------------------------------------------------------------


def parse(source):
    """The text as finally read, and its tree. Code fences and stray indentation are forgiven."""
    source = source.lstrip("\ufeff").replace("\r\n", "\n")
    fenced = source.lstrip().startswith("```")
    text = dedent(unfence(source) if fenced else source)
    try:
        return text, parse_only(text)
    except SyntaxError:
        for other in (dedent_rest(text), dedent(unfence(source)), source):
            try:
                return other, parse_only(other)
            except SyntaxError:
                pass
        raise


def parse_only(text):
    return compile(text, FILE, "exec", PARSE_ONLY, True)


def unfence(text):
    """The inside of the first Markdown fence, if there is one that starts a line."""
    inside = None
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        if inside is None:
            if fence:
                inside = []
        elif fence:
            break
        else:
            inside.append(line)
    return text if inside is None else "\n".join(inside)


def dedent(text):
    """Without the indentation that all lines share."""
    return "\n".join(shift(text.split("\n")))


def dedent_rest(text):
    """For code whose first line lost its indentation on the way while the rest kept it."""
    first, _, rest = text.lstrip("\n").partition("\n")
    if first.rstrip().endswith(":"):
        return text
    return first.lstrip() + "\n" + dedent(rest)


def shift(rows):
    margin = None
    for row in rows:
        if not row.strip():
            continue
        indent = row[: len(row) - len(row.lstrip(" \t"))]
        if margin is None:
            margin = indent
        while not indent.startswith(margin):
            margin = margin[:-1]
    if not margin:
        return rows
    return [row[len(margin) :] if row.startswith(margin) else row.lstrip(" \t") for row in rows]


# --- the import guard ---------------------------------------------------------------------------------------------------


def builtins_for(allowed):
    import builtins

    own = dict(builtins.__dict__)
    own["exit"] = own["quit"] = sys.exit  # what `site` would add
    if allowed is None:
        return own

    def __import__(name, globals=None, locals=None, fromlist=(), level=0):
        top = name.partition(".")[0]
        if level == 0 and top not in allowed:
            raise ImportError("`%s` cannot be imported here; these can: %s" % (top, ", ".join(allowed)))
        return builtins.__import__(name, globals, locals, fromlist, level)

    own["__import__"] = __import__
    return own


# --- errors as the planner reads them ------------------------------------------------------------------------------------


def describe(error, rows, memory_mib):
    """The last line of the traceback first, then the lines of the code it came through."""
    try:
        kind = type(error)
        name = kind.__qualname__
        if kind.__module__ not in ("builtins", "__main__"):
            name = kind.__module__ + "." + name
        if isinstance(error, SyntaxError) and error.filename == FILE:
            return "%s: %s%s" % (name, error.msg, syntax_place(error, rows))
        message = shorten(safe_str(error))
        if isinstance(error, MemoryError) and not message:
            message = "the limit is %s MiB" % memory_mib.decode()
        return "\n".join([name + ": " + message if message else name] + trace(error, rows))
    except MemoryError:
        return "MemoryError: the limit is %s MiB" % memory_mib.decode()
    except BaseException:
        return "an error that cannot be described"


def syntax_place(error, rows):
    if not error.lineno:
        return ""
    row = (error.text or (rows[error.lineno - 1] if error.lineno <= len(rows) else "")).rstrip("\n")
    bare = row.lstrip()
    shown = "\n  " + bare[:200] if bare else ""
    if bare and error.offset:
        column = min(error.offset - 1, len(row)) - (len(row) - len(bare))
        if 0 <= column < 200:
            shown += "\n  " + " " * column + "^"
    return " (line %d)%s" % (error.lineno, shown)


def trace(error, rows):
    shown = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_filename == FILE:
            row = rows[step.tb_lineno - 1].strip()[:200] if 0 < step.tb_lineno <= len(rows) else ""
            place = "" if code.co_name == "<module>" else ", in " + code.co_name
            shown.append("  line %d%s: %s" % (step.tb_lineno, place, row))
        step = step.tb_next
    if len(shown) > SHOWN_FRAMES:
        half = SHOWN_FRAMES // 2
        shown[half:-half] = ["  ... %d more calls ..." % (len(shown) - SHOWN_FRAMES)]
    return shown


def safe_str(value):
    try:
        return str(value)
    except BaseException:
        return "<a %s that cannot be printed>" % type(value).__name__


def shorten(text):
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return "%s ... [%d characters left out] ... %s" % (text[:half], len(text) - 2 * half, text[-half:])


# --- pipes and filters -----------------------------------------------------------------------------------------------------


def read_frames(descriptor):
    data = bytearray()
    posix.lseek(descriptor, 0, 0)
    while True:
        part = posix.read(descriptor, 1 << 20)
        if not part:
            break
        data += part
    posix.close(descriptor)
    frames, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        frames.append(bytes(data[at + 4 : end]))
        at = end
    return frames


def report(run_id, code, printed, error, wall_ms):
    parts = [
        code.to_bytes(4, "little"),
        wall_ms.to_bytes(4, "little"),
        b"\x00" if error is None else b"\x01",
        printed,
        (error or "").encode("utf-8", "backslashreplace"),
    ]
    frame = run_id + b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    while frame:
        frame = frame[posix.write(4, frame) :]


def install(*filters):
    """Closes the process with seccomp; the narrow filter first, because the last one also forbids installing more."""
    from ctypes import CDLL, Structure, byref, c_char_p, c_ushort

    class Program(Structure):
        _fields_ = [("length", c_ushort), ("filter", c_char_p)]

    prctl = CDLL(None, use_errno=True).prctl
    own = posix.getpid().to_bytes(4, sys.byteorder)
    for instructions in filters:
        instructions = instructions.replace(OWN_PID_MARK, own)
        program = Program(len(instructions) // 8, instructions)
        if prctl(22, 2, byref(program), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError("seccomp filter refused")
    if prctl(21, 0, 0, 0, 0) != 2:  # PR_GET_SECCOMP
        raise OSError("seccomp filter not in force")


def lines(text):
    return text.decode().split("\n") if text else []


main()
