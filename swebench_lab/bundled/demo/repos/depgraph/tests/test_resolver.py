import pytest

from depgraph import (
    Catalogue,
    Range,
    Requirement,
    ResolutionError,
    Resolver,
    Version,
    explain_presence,
    resolution_graph,
    resolve,
)


def texts(chosen):
    return {name: str(version) for name, version in chosen.items()}


class TestCatalogue:
    def test_versions_are_newest_first(self, catalogue):
        assert [str(version) for version in catalogue.versions("log")] == ["2.0.0", "1.9.0", "1.8.0"]
        assert catalogue.versions("nope") == []

    def test_membership(self, catalogue):
        assert "log" in catalogue
        assert "nope" not in catalogue

    def test_needs(self, catalogue):
        [requirement] = catalogue.needs("orm", Version("1.0.0"))
        assert requirement == Requirement("log", Range("<2"), "orm 1.0.0")

    def test_no_version_twice(self, catalogue):
        with pytest.raises(ValueError, match="log 2.0.0 is already in the catalogue"):
            catalogue.add("log", "2.0")


class TestResolve:
    def test_steps_back_from_the_newest(self, catalogue):
        chosen = resolve(catalogue, {"app": "*"})
        assert texts(chosen) == {"app": "1.0.0", "log": "1.9.0", "orm": "1.0.0", "web": "2.0.0"}
        assert list(chosen) == sorted(chosen)

    def test_newest_if_possible(self, catalogue):
        assert texts(resolve(catalogue, {"web": "*"})) == {"log": "2.0.0", "web": "2.1.0"}

    def test_only_what_is_needed(self, catalogue):
        assert texts(resolve(catalogue, {"log": "<1.9"})) == {"log": "1.8.0"}
        assert resolve(catalogue, {}) == {}

    def test_locked_versions_are_preferred(self, catalogue):
        assert texts(resolve(catalogue, {"log": "*"}, locked={"log": "1.8.0"})) == {"log": "1.8.0"}

    def test_locked_versions_give_way(self, catalogue):
        assert texts(resolve(catalogue, {"log": ">=2"}, locked={"log": "1.8.0"})) == {"log": "2.0.0"}
        assert texts(resolve(catalogue, {"log": "*"}, locked={"log": "1.0.0"})) == {"log": "2.0.0"}

    def test_cyclic_needs_are_fine(self):
        catalogue = Catalogue()
        catalogue.add("a", "1", {"b": "^1"})
        catalogue.add("b", "1", {"a": "^1"})
        assert texts(resolve(catalogue, {"a": "*"})) == {"a": "1.0.0", "b": "1.0.0"}

    def test_cyclic_needs_that_do_not_fit(self):
        catalogue = Catalogue()
        catalogue.add("a", "2", {"b": "*"})
        catalogue.add("a", "1")
        catalogue.add("b", "1", {"a": "<2"})
        assert texts(resolve(catalogue, {"a": "*"})) == {"a": "1.0.0"}

    def test_tries_are_limited(self, catalogue):
        with pytest.raises(ResolutionError, match="gave up after 2 tries"):
            Resolver(catalogue, max_tries=2).resolve({"app": "*"})

    def test_tries_are_counted(self, catalogue):
        resolver = Resolver(catalogue)
        resolver.resolve({"log": "*"})
        assert resolver.tries == 1


class TestConflicts:
    def test_message_lists_who_needs_what(self, catalogue):
        with pytest.raises(ResolutionError) as caught:
            resolve(catalogue, {"orm": "*", "log": ">=2"})
        assert str(caught.value).splitlines() == [
            "no version of 'log' fits:",
            "  - you need log >=2.0.0",
            "  - orm 1.0.0 needs log <2.0.0",
            "available: 2.0.0, 1.9.0, 1.8.0",
        ]

    def test_no_such_version(self, catalogue):
        with pytest.raises(ResolutionError) as caught:
            resolve(catalogue, {"log": "^7"})
        assert str(caught.value).splitlines()[:2] == ["no version of 'log' fits:", "  - you need log >=7.0.0, <8.0.0"]

    def test_no_such_package(self, catalogue):
        catalogue.add("bad", "1", {"ghost": "*"})
        with pytest.raises(ResolutionError, match=r"there is no package 'ghost' \(needed by bad 1.0.0\)"):
            resolve(catalogue, {"bad": "*"})

    def test_chosen_version_contradicted(self):
        catalogue = Catalogue()
        catalogue.add("a", "2", {"b": "*"})
        catalogue.add("b", "1", {"a": "<2"})
        catalogue.add("b", "2", {"a": "<2"})
        with pytest.raises(ResolutionError) as caught:
            resolve(catalogue, {"a": "*"})
        assert "  - b 2.0.0 needs a <2.0.0" in str(caught.value).splitlines()


def test_requirement_text():
    assert str(Requirement("log", Range("^1"))) == "you need log >=1.0.0, <2.0.0"
    assert str(Requirement("log", Range("*"), "web 1.0.0")) == "web 1.0.0 needs log *"


def test_install_order(catalogue):
    chosen = resolve(catalogue, {"app": "*"})
    assert resolution_graph(catalogue, chosen).layers() == [["log"], ["web", "orm"], ["app"]]


def test_explain_presence(catalogue):
    chosen = resolve(catalogue, {"app": "*"})
    assert explain_presence(catalogue, chosen, "log", ["app"]) == "app 1.0.0 -> web 2.0.0 -> log 1.9.0"
    assert explain_presence(catalogue, chosen, "log", ["orm", "app"]) == "orm 1.0.0 -> log 1.9.0"
    assert explain_presence(catalogue, chosen, "app", ["log", "orm"]) == "app is not needed by log, orm"
