"""Changes of labels as such: two tabs agree in the end, nothing is done twice, and nonsense is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_client import SHAPE, label_store, make_project
from web_work import add, move, remove, setting

from upicker.io import coordinates
from upicker.particles import Particles, ScoreKind
from upicker.web.labelling import changes
from upicker.web.labelling.label_set import LabelSet
from upicker.web.responses import Refused

# What a browser does with its state: the same rules as in the page.


def play(state: dict, wanted: list[dict]) -> dict:
    for change in wanted:
        key, known = change["key"], change["key"] in state
        if (change["op"] == "add" and not known) or (change["op"] == "move" and known):
            state[key] = (change["x"], change["y"])
        elif change["op"] == "remove":
            state.pop(key, None)
    return state


class Tab:
    """A browser's tab: what it shows, what the server has told it, and what it has not sent yet."""

    def __init__(self, server: LabelSet) -> None:
        self.saved, self.revision, self.unsent = at(server), server.revision, []
        self.seen = dict(self.saved)

    def do(self, key: str, op: str, x: int) -> None:
        if (op == "add") == (key in self.seen):
            return  # A person adds only what is not there, and moves or removes only what is.
        change = {"op": op, "key": key, "x": float(x), "y": 5.0}
        self.unsent.append(change)
        play(self.seen, [change])

    def send(self, server: LabelSet, times: int = 1, news_first: bool = True) -> LabelSet:
        wanted = parsed(self.unsent)
        for _ in range(times):
            server = server.applied(wanted)
        news = server.missed(self.revision, wanted)
        play(self.saved, [*news, *self.unsent] if news_first else [*self.unsent, *news])
        self.unsent, self.revision, self.seen = [], server.revision, dict(self.saved)
        return server


def parsed(wanted: list[dict]) -> list[changes.Change]:
    return changes.parse(wanted, lambda: SHAPE)


def at(server: LabelSet) -> dict[str, tuple[float, float]]:
    return {key: label[:2] for key, label in server.labels.items()}


@pytest.mark.parametrize("format", ["csv", "star"])
@pytest.mark.parametrize("kind", ScoreKind)
def test_the_page_keeps_what_the_scores_of_a_file_are(tmp_path, kind, format):
    """Proposals or picks in a folder of labels, which are corrected on the page."""
    project, folder = make_project(tmp_path, labels=False), tmp_path / "labels"
    given = Particles.of([[10, 20], [30, 40], [50, 60]], 28, 1.0 if kind is ScoreKind.NONE else [9, 8, 7], kind)
    coordinates.write(coordinates.output_path(folder, "mic0", format), given, format)
    store = label_store(project)
    keys = [key for key, *_ in store.state(0)["particles"]]
    store.apply(0, store.epoch, 0, [move(keys[0], 11, 20), remove(keys[1]), add("new", 70, 80)])
    store = label_store(project)
    store.apply(0, store.epoch, 0, [add("newer", 90, 80)])
    found = coordinates.read(folder / "mic0.csv")
    assert found.score_kind == kind
    assert found.score.tolist() == ([1, 1, 1, 1] if kind is ScoreKind.NONE else [9, 7, 1, 1])
    store.apply(0, store.epoch, 1, [remove(key) for key, *_ in store.state(0)["particles"]])
    store.apply(0, store.epoch, 2, [add("first", 90, 80)])
    assert coordinates.read(folder / "mic0.csv").score_kind == ScoreKind.NONE  # nothing of the file is left


KEYS = st.sampled_from("abcd")
DEEDS = st.tuples(KEYS, st.sampled_from(["add", "remove", "move"]), st.integers(0, 9))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.none() | DEEDS), max_size=30),
    st.integers(1, 2),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_two_tabs_come_to_show_what_the_server_has(deeds, times, news_first):
    server = LabelSet().applied(parsed([add("a"), add("b")]))
    tabs = [Tab(server), Tab(server)]
    for which, deed in deeds:
        if deed is None:
            server = tabs[which].send(server, times, news_first)
        else:
            tabs[which].do(*deed)
    for tab in (*tabs, *tabs):
        server = tab.send(server, times, news_first)
    assert tabs[0].saved == tabs[1].saved == at(server)


@given(st.lists(DEEDS, max_size=12), st.lists(DEEDS, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_what_two_tabs_do_to_labels_of_their_own_gives_the_same_in_any_order(first, second, order):
    def change(key: str, deed: tuple[str, str, int]) -> dict:
        return {"op": deed[1], "key": key + deed[0], "x": float(deed[2]), "y": 1.0}

    own = [[change(tab, deed) for deed in deeds] for tab, deeds in (("1", first), ("2", second))]
    start = LabelSet().applied(parsed([add("1a"), add("2b")]))
    one_after_other = start.applied(parsed([*own[0], *own[1]]))
    turns = [0] * len(own[0]) + [1] * len(own[1])
    order.shuffle(turns)
    left = [iter(own[0]), iter(own[1])]
    mixed = start
    for turn in turns:
        mixed = mixed.applied(parsed([next(left[turn])]))
    assert at(mixed) == at(one_after_other)


@given(st.lists(DEEDS, max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_is_sent_twice_changes_nothing(deeds):
    tab = Tab(start := LabelSet().applied(parsed([add("a"), add("b")])))
    for deed in deeds:
        tab.do(*deed)
    once = start.applied(parsed(tab.unsent))
    twice = once.applied(parsed(tab.unsent))
    assert (twice.labels, twice.revision) == (once.labels, once.revision)


REFUSED = {
    "no list": "add",
    "too many": [remove("a")] * 100_001,
    "no object": [7],
    "no op": [{"key": "a"}],
    "unknown op": [{"op": "drop", "key": "a"}],
    "no key": [{"op": "remove"}],
    "long key": [remove("a" * 25)],
    "strange key": [remove("../x")],
    "not a key": [{"op": "remove", "key": 7}],
    "no y": [{"op": "add", "key": "a", "x": 3}],
    "word": [add("a", "3")],  # type: ignore[arg-type]
    "truth": [add("a", True)],
    "NaN": [add("a", float("nan"))],
    "infinite": [move("a", 3, float("inf"))],
    "huge": [add("a", 10**400)],
    "left": [add("a", -1.01, 5)],
    "right": [add("a", SHAPE[1] + 0.01, 5)],
    "below": [move("a", 5, SHAPE[0] + 0.01)],
    "diameter 0": [setting("diameter", 0)],
    "no diameter": [setting("diameter", None)],
    "coverage": [setting("coverage", "some")],
    "coverage list": [setting("coverage", ["complete"])],
    "bad": [setting("bad", 1)],
    "regions": [setting("regions", [[1, 2, 3]])],
    "region words": [setting("regions", [["1", 2, 30, 40]])],
    "region outside": [setting("regions", [[-50, -50, -1, -1]])],
    "many regions": [setting("regions", [[0, 0, 5, 5]] * 1001)],
}


@pytest.mark.parametrize("wanted", REFUSED.values(), ids=list(REFUSED))
def test_what_makes_no_sense_is_refused(wanted):
    with pytest.raises(Refused) as refused:
        changes.parse([add("good"), *wanted] if isinstance(wanted, list) else wanted, lambda: SHAPE)
    assert refused.value.status == 400
