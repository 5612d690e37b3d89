"""What the names of files say: which are images, and which of all files nobody put there on purpose."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from condgan.data.preprocessing import readable
from condgan.utils.errors import shown

LEFTOVERS = (
    ".*/", ".*",  # hidden: macOS (.DS_Store, ._NAME), Linux (.Trash-1000, .nfs…, .fuse_hidden…), Jupyter, Picasa
    "__MACOSX/", "Icon\r", "Network Trash Folder/", "Temporary Items/",  # macOS: its zips, folder icons, network drives
    "Thumbs.db", "Thumbs.db:*", "ehthumbs*.db", "desktop.ini",  # Windows Explorer
    "$RECYCLE.BIN/", "RECYCLER/", "System Volume Information/",  # Windows drives
    "*Zone.Identifier", "*:com.dropbox.*",  # streams of NTFS, written out by WSL and by archivers
    "@eaDir/", "#recycle/", "#snapshot/", "@tmp/",  # Synology
    "@Recycle/", "@Recently-Snapshot/", "@__thumb/",  # QNAP
    "*@SynoEAStream", "*@SynoResource", "@SynoEAStream/", "#sharebin/", "~snapshot/",  # their metadata; NetApp
    "RECYCLED/", "FOUND.0*/", "_vti_cnf/",  # FAT, its repaired files, FrontPage
    "lost+found/",  # ext2 to ext4
    "Picasa.ini", "ZbThumbnail.info", "__pycache__/",  # Picasa, ZoomBrowser, Python
    "~$*", "*~", "*.tmp", "*.swp",  # Office and editors
    "*.part", "*.partial", "*.filepart", "*.crdownload", "*.opdownload", "*.aria2", "*.!ut",  # downloads under way
)  # fmt: skip
"""What systems and tools leave among files: folders with all that they hold (NAME/), and files."""

PICTURE_ENDINGS = frozenset((
    ".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs", ".jxl", ".jxr", ".wdp", ".hdp", ".bpg", ".svg",
    ".svgz", ".eps", ".ai", ".pdf", ".wmf", ".emf", ".xcf", ".kra", ".psb", ".exr", ".hdr", ".dcm", ".dng", ".nef",
    ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".raw", ".rwl", ".pef", ".srw",
    ".x3f", ".3fr", ".fff", ".iiq", ".mef", ".mos", ".mrw", ".erf", ".kdc", ".dcr", ".gpr",
))  # fmt: skip
"""Endings of pictures, some of which Pillow reads where it was built with what they need."""

ENDINGS_TOLD = 6
"""Endings that are told by name."""


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    ends = [_plain(name[1:]) for name in names if name.startswith("*")]
    whole = [_plain(name) for name in names if not name.startswith("*")]
    return re.compile("|".join([*whole, f".*(?:{'|'.join(ends) or '(?!)'})"]), re.IGNORECASE | re.DOTALL)


def _plain(name: str) -> str:
    return re.escape(name).replace(r"\*", ".*")


_FILES = _pattern([name for name in LEFTOVERS if not name.endswith("/")])
_FOLDERS = _pattern([name[:-1] for name in LEFTOVERS if name.endswith("/")])


def is_leftover(path: str) -> bool:
    """Whether a file, or with a / at its end a folder, is one of `LEFTOVERS` or in one."""
    *folders, file = path.split("/")
    return _FILES.fullmatch(file) is not None or any(map(_is_left_folder, folders))


@cache
def _is_left_folder(name: str) -> bool:
    return name not in (".", "..") and _FOLDERS.fullmatch(name) is not None


def ending(path: str) -> str:
    """The ending of a file's name in lower case, with its dot; '' for none."""
    stem, _, last = path.rpartition(".")
    if "/" in last or not stem.rpartition("/")[2].strip("."):  # no dot, or none but those that a name begins with
        return ""
    found = f".{last}".strip().lower()
    return "" if found == "." else found


def is_image(path: str) -> bool:
    """Whether a file is named like an image that can be read."""
    return ending(path) in readable()


def left_out(files: Iterable[str]) -> list[str]:
    """Say of files that are no readable images how many are left out: pictures of other formats, and the rest."""
    counts = Counter(map(ending, files))
    pictures = {name: count for name, count in counts.items() if name in PICTURE_ENDINGS}
    rest = {name: count for name, count in counts.items() if name not in PICTURE_ENDINGS}
    said = []
    if pictures:
        heic = " (.heic can be read after pip install pi-heif)" * bool(pictures.keys() & {".heic", ".heif", ".hif"})
        said.append(f"{_counted(pictures)}, which cannot be read: convert them to PNG or JPEG{heic}")
    if rest:
        said.append(f"{_counted(rest)}, which are no images by their names")
    return said


def _counted(counts: dict[str, int]) -> str:
    total, most = sum(counts.values()), Counter(counts).most_common()
    named = [f"{count:,} {shown(name, 20) if name else 'without ending'}" for name, count in most[:ENDINGS_TOLD]]
    return f"{total:,} file{'s' * (total > 1)} left out: {', '.join(named)}{', …' * (len(most) > ENDINGS_TOLD)}"
