"""What names of folders stand for: a split (`train`, `dev`, `seg_train`, `images-val`, ...), a domain, a number."""

import re
from collections.abc import Collection, Iterable, Mapping

from graft.data.records import Split

_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trn", "trainval", "learn", "learning"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst", "holdout", "heldout"), "test"),
    # A test set, or a validation set if there is a test set beside it.
    **dict.fromkeys(("eval", "evaluation"), "eval"),
}
_FILLERS = frozenset(
    {
        *("set", "sets", "data", "dataset", "split", "splits", "folder", "dir", "directory", "subset", "part"),
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpg", "jpeg", "png", "files"),
        *("seg", "final", "all", "full", "original", "raw", "new", "hold", "held", "out"),
    }
)
_ONE_WORD = re.compile(
    rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(sets?|data|dataset|images?|imgs?|folder|split)"
)
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")
_DOMAINS = re.compile(
    r"(?:(?:art_?)?paintings?|art|artistic|photos?|photographs?|real(?:_?world|_images?)?|sketch(?:es)?|cartoons?|"
    r"clip_?arts?|quick_?draw|info_?graphs?|drawings?|illustrations?|renders?|rendered|synthetic|simulated|product|"
    r"web_?cam|dslr|amazon|caltech|day(?:time|light)?|night(?:time)?|indoors?|outdoors?|rgb|infrared|nir|ir|thermal|"
    r"gr[ae]y(?:scale)?|colou?r|source|target|mnist|svhn|usps|(?:cam(?:era)?|site|hospital|location|domain)_?\w{1,3})",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[^\W\d_]{0,12}[-_ .]?\d+[^\W\d_]?")


def splits_of(names: Iterable[str]) -> dict[str, Split]:
    """Return the split that each of these folders, which lie beside each other, stands for; others are left out.

    Words that a name has besides that of its split have to be usual (`training_set`), numbers (`val2017`), or those of
    another split beside it (`birds_train`, `birds_test`): `train_station` is no split.
    """
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for name in names:
        words = _words(name)
        kinds = {_WORDS[word] for word in words if word in _WORDS}
        if "out" in words and ("hold" in words or "held" in words):
            kinds.add("test")
        if len(kinds) == 1:
            rest = frozenset(
                word for word in words if word not in _WORDS and word not in _FILLERS and not word.isdigit()
            )
            found[name] = (kinds.pop(), rest)
    meant = {
        name: kind
        for name, (kind, rest) in found.items()
        if not rest or any(other != kind and beside == rest for other, beside in found.values())
    }
    evaluation: Split = "val" if "test" in meant.values() else "test"
    named: Mapping[str, Split] = {"train": "train", "val": "val", "test": "test", "eval": evaluation}
    return {name: named[kind] for name, kind in meant.items()}


def _words(name: str) -> list[str]:
    words = []
    for part in _PARTS.findall(name):
        word = part.casefold()
        joined = _ONE_WORD.fullmatch(word)
        words += [joined[1]] if joined else [word]
    return words


def are_domains(names: Collection[str]) -> bool:
    """Return whether most of these are names that domains have: art, photo, night, camera_2."""
    return (
        sum(bool(_DOMAINS.fullmatch(name.strip().replace(" ", "_").replace("-", "_"))) for name in names)
        > len(names) / 2
    )


def are_numbered(names: Collection[str]) -> bool:
    """Return whether nearly all of these are numbers, with a word before them or not: patient_07."""
    return sum(bool(_NUMBERED.fullmatch(name)) for name in names) >= 0.8 * len(names)
