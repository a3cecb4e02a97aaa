"""The words of the captions. No word begins with a vowel sound, so that `a` never turns into `an`."""

from __future__ import annotations

from scenes.model import Phrase

# kind -> (singular, plural), synonyms beside each other
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "house": (("house", "houses"), ("home", "homes")),
    "tent": (("tent", "tents"),),
    "tree": (("tree", "trees"),),
    "flower": (("flower", "flowers"), ("blossom", "blossoms")),
    "mushroom": (("mushroom", "mushrooms"),),
    "car": (("car", "cars"),),
    "bus": (("bus", "buses"),),
    "boat": (("boat", "boats"), ("sailboat", "sailboats")),
    "duck": (("duck", "ducks"),),
    "fish": (("fish", "fish"),),
    "ball": (("ball", "balls"),),
    "parasol": (("parasol", "parasols"),),
    "kite": (("kite", "kites"),),
    "balloon": (("balloon", "balloons"),),
    "cat": (("cat", "cats"), ("kitten", "kittens")),
    "pear": (("pear", "pears"),),
    "banana": (("banana", "bananas"),),
    "cup": (("cup", "cups"), ("mug", "mugs")),
    "star": (("star", "stars"),),
    "bird": (("bird", "birds"),),
    "snowman": (("snowman", "snowmen"),),
}
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown")
SIZES: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "big": ("big", "large")}  # medium is never said
PATTERNS: dict[str, tuple[str, ...]] = {"striped": ("striped",), "dotted": ("dotted", "spotted")}  # nor is plain
NUMBERS = {2: "two", 3: "three"}

# relation -> (words before, the word that decides, words after)
RELATIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "left": (("to the", "left", "of"), ("on the", "left", "of")),
    "right": (("to the", "right", "of"), ("on the", "right", "of")),
    "above": (("", "above", ""), ("", "over", "")),
    "below": (("", "below", ""), ("", "under", ""), ("", "beneath", "")),
    "on": (("", "on", ""),),
}
BESIDE = ("next to", "beside", "near")

# ground -> (preposition, noun)
PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    "grass": (("on the", "grass"), ("in the", "grass"), ("on the", "lawn")),
    "sand": (("on the", "sand"), ("on the", "beach"), ("in the", "sand")),
    "snow": (("in the", "snow"), ("on the", "snow")),
    "water": (("on the", "water"), ("in the", "water"), ("on the", "lake")),
    "road": (("on the", "road"), ("on the", "street")),
    "table": (("on the", "table"), ("on the", "desk")),
}
SKY_PREPOSITIONS = ("over the", "above the", "high over the")
TIME_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "sunset": (("at", "sunset"), ("at", "dusk")),
    "night": (("at", "night"),),
}

# kind -> verbs (third person, base form) for what stands on the ground, and in the air
STANDS, SITS, LIES = ("stands", "stand"), ("sits", "sit"), ("lies", "lie")
GROWS, FLOATS, SWIMS, PARKS = ("grows", "grow"), ("floats", "float"), ("swims", "swim"), ("stops", "stop")
FLIES, HANGS = ("flies", "fly"), ("hangs", "hang")
RESTS = ("rests", "rest")
VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    "house": (STANDS,), "tent": (STANDS,), "tree": (STANDS, GROWS), "flower": (GROWS,), "mushroom": (GROWS,),
    "car": (STANDS, PARKS), "bus": (STANDS, PARKS), "boat": (FLOATS,), "duck": (SWIMS, SITS), "fish": (SWIMS,),
    "ball": (LIES, RESTS), "parasol": (STANDS,), "kite": (LIES,), "balloon": (RESTS,), "cat": (SITS, RESTS),
    "pear": (LIES, RESTS), "banana": (LIES, RESTS), "cup": (STANDS,), "star": (LIES,), "bird": (SITS,),
    "snowman": (STANDS,),
}  # fmt: skip
SKY_VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    "kite": (FLIES,), "balloon": (FLIES, FLOATS, HANGS), "star": (HANGS,), "bird": (FLIES,),
}  # fmt: skip


def words_for(field: str, value: str | int, plural: bool = False) -> tuple[str, ...]:
    """Return every word that states `value` of a claim's `field`, synonyms included.

    Raises:
        ValueError: if the field is unknown.
    """
    if field == "kind":
        return tuple(forms[plural] for forms in NOUNS[str(value)])
    if field == "colour":
        return (str(value),)
    if field == "size":
        return SIZES[str(value)]
    if field == "pattern":
        return PATTERNS[str(value)]
    if field == "count":
        return (NUMBERS[int(value)],)
    if field == "relation":
        return tuple(dict.fromkeys(word for _, word, _ in RELATIONS[str(value)]))
    if field == "ground":
        return tuple(dict.fromkeys(word for _, word in PLACES[str(value)]))
    if field == "time":
        return tuple(word for _, word in TIME_WORDS[str(value)])
    raise ValueError(f"no words for the field {field!r}")


def noun(kind: str, count: int = 1) -> str:
    """Return the first noun of a kind, in the number that `count` asks for."""
    return NOUNS[kind][0][count != 1]


def noun_phrase(phrase: Phrase) -> str:
    """Return `two small striped red balls` for what `phrase` says."""
    words = ["a" if phrase.count == 1 else NUMBERS[phrase.count]]
    words += [value for value in (phrase.size, phrase.pattern, phrase.colour) if value is not None]
    return " ".join([*words, noun(phrase.kind, phrase.count)])


def be(count: int) -> str:
    """Return `is` or `are`."""
    return "is" if count == 1 else "are"
