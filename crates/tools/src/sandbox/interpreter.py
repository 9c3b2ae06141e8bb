"""Says where this interpreter keeps what it needs to run, as JSON. Run once, outside the sandbox."""

import importlib.util
import json
import os
import platform
import struct
import sys
import sysconfig

PACKAGES = ("sympy", "numpy", "mpmath")


def main():
    paths = sysconfig.get_paths()
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    # Of a virtual environment the base is wanted: its standard library, and only packages from the environment.
    base = {name: paths[name] for name in ("stdlib", "platstdlib")}
    base.update(sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix}))
    standard = [base["stdlib"], base["platstdlib"], os.path.dirname(os.__file__)]
    packages, site = [], []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            packages.append(name)
            site.append(os.path.dirname(os.path.dirname(spec.origin)))
    print(json.dumps({
        "version": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "executable": executable,
        "standard": unique(standard),
        "site": unique(site),
        "libraries": unique(os.path.dirname(path) for path in mapped_libraries()),
        "loader": loader(executable),
        "packages": packages,
    }))


def mapped_libraries():
    """The shared objects in this process, with those that most extension modules pull in."""
    for name in ("_ctypes", "_decimal", "_hashlib", "zlib", "math"):
        try:
            __import__(name)
        except ImportError:
            pass
    try:
        with open("/proc/self/maps") as maps:
            found = {line.split(maxsplit=5)[-1].strip() for line in maps if ".so" in line}
    except OSError:
        return []
    standard = os.path.dirname(os.__file__)
    return sorted(path for path in found if path.startswith("/") and not path.startswith(standard))


def loader(executable):
    """The dynamic loader that the ELF file names (PT_INTERP), if it is one and names one."""
    with open(executable, "rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return None
        order = "<" if header[5] == 1 else ">"
        offset, = struct.unpack_from(order + "Q", header, 32)
        size, count = struct.unpack_from(order + "HH", header, 54)
        for index in range(count):
            file.seek(offset + index * size)
            entry = file.read(size)
            if struct.unpack_from(order + "I", entry)[0] == 3:
                start, = struct.unpack_from(order + "Q", entry, 8)
                length, = struct.unpack_from(order + "Q", entry, 32)
                file.seek(start)
                return file.read(length).rstrip(b"\0").decode()
    return None


def unique(paths):
    return [path for path in dict.fromkeys(os.path.abspath(path) for path in paths) if os.path.isdir(path)]


main()
