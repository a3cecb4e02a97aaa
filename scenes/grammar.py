"""From a scene to English sentences that know which of their words only the image determines."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from scenes.model import Caption, Claim, Phrase, Relation, Scene, Slot, Span, Thing, related
from scenes.statistics import HABITS, Statistics
from scenes.words import (
    BESIDE,
    NOUNS,
    NUMBERS,
    PATTERNS,
    PLACES,
    RELATIONS,
    SIZES,
    SKY_PREPOSITIONS,
    SKY_VERBS,
    TIME_WORDS,
    VERBS,
)

GUESSABLE = 0.6  # a word whose probability given the rest of the sentence reaches this is not salient


@dataclass
class _Sentence:
    """Words in order, each with what it states and whether it is salient."""

    words: list[tuple[str, Slot | None, bool]] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    ground: str | None = None
    time: str | None = None

    def say(self, text: str) -> None:
        """Append words that state nothing by themselves."""
        self.words += [(word, None, False) for word in text.split()]

    def state(self, word: str, slot: Slot, probability: float) -> None:
        """Append a word that states `slot` and that the other words predict with `probability`."""
        self.words.append((word, slot, probability < GUESSABLE))

    def caption(self) -> Caption:
        """Join the words, capitalise, end with a full stop and keep the character positions."""
        text, spans = "", []
        for word, slot, salient in self.words:
            if text and word != ",":
                text += " "
            start = len(text)
            text += word if text else word.capitalize()
            if slot is not None:
                spans.append(Span(start, len(text), slot, salient))
        claim = Claim(tuple(self.phrases), tuple(self.relations), self.ground, self.time)
        return Caption(text + ".", claim, tuple(spans))


class Grammar:
    """Writes captions with the habits of `statistics`."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics

    def captions(self, scene: Scene, rng: random.Random, number: int) -> list[Caption]:
        """Return `number` captions with different texts, all true of the scene."""
        found: dict[str, Caption] = {}
        while len(found) < number:
            caption = self.caption(scene, rng)
            found.setdefault(caption.text, caption)
        return list(found.values())

    def caption(self, scene: Scene, rng: random.Random) -> Caption:
        """Return one caption that is true of the scene."""
        return _Writer(self.statistics, scene, rng).write()


class _Writer:
    """The state of one sentence in the making."""

    def __init__(self, statistics: Statistics, scene: Scene, rng: random.Random) -> None:
        self.statistics, self.scene, self.rng = statistics, scene, rng
        self.sentence = _Sentence()
        self.named: list[Thing] = []

    def write(self) -> Caption:
        things = list(self.scene.things)
        self.rng.shuffle(things)
        self.subject, others = things[0], things[1:]
        templates = {
            "plain": self._plain,
            "there": self._there,
            "verb": self._verb,
            "place first": self._plain if self.subject.in_sky else self._place_first,
            "picture": self._picture,
        }
        self.told = others[:1] if len(things) < 3 or self._often("pair only", 0.4) else others
        self.kinds = [thing.kind for thing in (self.subject, *self.told)]
        templates[self._choose("template", tuple(templates))]()
        return self.sentence.caption()

    def _plain(self) -> None:
        self._noun_phrase(self.subject)
        self._rest()

    def _there(self) -> None:
        self.sentence.say("there is" if self.subject.count == 1 else "there are")
        self._plain()

    def _picture(self) -> None:
        self.sentence.say(self._choose("picture", ("a picture of", "a photo of", "this picture shows", "we see")))
        self._plain()

    def _verb(self) -> None:
        self._noun_phrase(self.subject)
        self.sentence.say(self._verb_of(self.subject))
        self._rest(joined=False)

    def _place_first(self) -> None:
        self._place(self.subject)
        self.sentence.say(",")
        self._noun_phrase(self.subject)
        self.sentence.say(self._verb_of(self.subject))
        self._rest(joined=False, place=False)

    def _rest(self, joined: bool = True, place: bool = True) -> None:
        """Say everything after the subject; `joined` allows `A and B`."""
        if self.told:
            self._second(joined)
        if place and (not self.told or self._says("place")):
            self._place(min(self.named, key=lambda thing: thing.in_sky))
        if len(self.told) > 1:
            self._third()
        elif self.scene.time != "day" and self._says("time"):
            self._time()

    def _second(self, joined: bool) -> None:
        other = self.told[0]
        names = [
            name for name in ("left", "right", "on", "above", "below") if related(name, self.subject.box, other.box)
        ]
        if names and (not joined or self._says("relation")):
            name = names[0]
            if name in ("left", "right") and self._often("beside", 0.2):
                self.sentence.say(self._choose("beside words", BESIDE))
            else:
                self._relation(name, other)
        elif joined:
            self.sentence.say("and")
        else:
            self.sentence.say("with")
        self._noun_phrase(other)

    def _third(self) -> None:
        thing = self.told[1]
        self.sentence.say("with")
        self._noun_phrase(thing)
        if thing.in_sky:
            self.sentence.say(self._choose("overhead", ("above", "overhead")))
        else:
            self.sentence.say(self._choose("close", ("nearby", "close by")))

    def _noun_phrase(self, thing: Thing) -> None:
        index = len(self.sentence.phrases)
        said = self._attributes(thing)
        if thing.count == 1:
            self.sentence.say("a")
        else:
            counts = self.statistics.of_kind(thing.kind, "counts")
            among = sum(counts.get(str(number), 0.0) for number in NUMBERS)
            probability = counts[str(thing.count)] / among
            self.sentence.state(NUMBERS[thing.count], Slot("count", index, thing.count), probability)
        for name, table in (("size", SIZES), ("pattern", PATTERNS)):
            if said[name]:
                value = getattr(thing, name)
                word = self._choose(value, table[value])
                # a rider is small by its place, whatever the habit of its kind
                probability = self.statistics.of_kind(thing.kind, name + "s").get(value, 0.0)
                self.sentence.state(word, Slot(name, index, value), probability)
        if said["colour"]:
            probability = self.statistics.of_kind(thing.kind, "colours")[thing.colour]
            self.sentence.state(thing.colour, Slot("colour", index, thing.colour), probability)
        forms = NOUNS[thing.kind]
        singular = self._choose(thing.kind, tuple(form[0] for form in forms))
        noun = dict(forms)[singular] if thing.count > 1 else singular
        probability = self.statistics.kinds_on[self.scene.ground][thing.kind]
        self.sentence.state(noun, Slot("kind", index, thing.kind), probability)
        values = {name: getattr(thing, name) if said[name] else None for name in said}
        self.sentence.phrases.append(Phrase(thing.kind, thing.count, **values))
        self.named.append(thing)

    def _attributes(self, thing: Thing) -> dict[str, bool]:
        """Decide what to say of a thing: always the colour of one of two cats, only that of a third thing."""
        twins = sum(other.kind == thing.kind for other in self.scene.things) > 1
        brief = len(self.named) == 2
        return {
            "colour": twins or brief or self._says("colour"),
            "size": not brief and thing.size != "medium" and self._says("size"),
            "pattern": not brief and thing.pattern != "plain" and self._says("pattern"),
        }

    def _relation(self, name: str, other: Thing) -> None:
        before, word, after = RELATIONS[name][self._index(name, len(RELATIONS[name]))]
        self.sentence.say(before)
        index = len(self.sentence.relations)
        upper = self.subject if name == "above" else other
        probability = HABITS[upper.kind].sky if name in ("above", "below") else 0.5
        self.sentence.state(word, Slot("relation", index, name), probability)
        self.sentence.say(after)
        self.sentence.relations.append(Relation(name, 0, 1))

    def _place(self, thing: Thing) -> None:
        places = PLACES[self.scene.ground]
        preposition, noun = places[self._index(self.scene.ground, len(places))]
        if thing.in_sky:
            preposition = self._choose("sky prepositions", SKY_PREPOSITIONS)
        self.sentence.say(preposition)
        probability = self.statistics.ground_given(self.kinds)[self.scene.ground]
        self.sentence.state(noun, Slot("ground", 0, self.scene.ground), probability)
        self.sentence.ground = self.scene.ground

    def _time(self) -> None:
        words = TIME_WORDS[self.scene.time]
        preposition, noun = words[self._index(self.scene.time, len(words))]
        self.sentence.say(preposition)
        self.sentence.state(noun, Slot("time", 0, self.scene.time), 0.5)
        self.sentence.time = self.scene.time

    def _verb_of(self, thing: Thing) -> str:
        verbs = SKY_VERBS[thing.kind] if thing.in_sky else VERBS[thing.kind]
        return verbs[self._index(f"{thing.kind} verb {thing.in_sky}", len(verbs))][thing.count > 1]

    def _choose(self, name: str, options: tuple[str, ...]) -> str:
        return self.statistics.choose(self.rng, name, options)

    def _index(self, name: str, number: int) -> int:
        return int(self._choose(name, tuple(str(i) for i in range(number))))

    def _says(self, name: str) -> bool:
        """Whether something that could be left unsaid is said."""
        return self._often(name, self.statistics.level.said[name])

    def _often(self, name: str, probability: float) -> bool:
        yes = self.statistics.distribution(name, f"yes {probability} no {1 - probability}")["yes"]
        return self.rng.random() < yes
