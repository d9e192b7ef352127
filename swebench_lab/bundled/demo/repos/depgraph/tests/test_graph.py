import pytest

from depgraph import CycleError, Graph, MissingNodeError


@pytest.fixture
def loop():
    return Graph({"start": ["a"], "a": ["b", "leaf"], "b": ["c"], "c": ["a"]})


class TestBuilding:
    def test_dependencies_become_nodes(self):
        graph = Graph()
        graph.add("a", "b", "c")
        assert list(graph) == ["a", "b", "c"]
        assert len(graph) == 3

    def test_adding_again_adds_edges(self):
        graph = Graph({"a": ["b"]})
        graph.add("a", "b", "c")
        assert graph.dependencies("a") == ["b", "c"]

    def test_remove(self, diamond):
        diamond.remove("log")
        assert "log" not in diamond
        assert diamond.dependencies("web") == []
        assert diamond.leaves() == ["web", "orm"]

    @pytest.mark.parametrize("method", ["remove", "dependencies", "dependents", "reachable"])
    def test_missing_node(self, diamond, method):
        with pytest.raises(MissingNodeError) as caught:
            getattr(diamond, method)("nope")
        assert str(caught.value) == "no such node: 'nope'"
        assert caught.value.node == "nope"


class TestQueries:
    def test_neighbours(self, diamond):
        assert diamond.dependencies("app") == ["web", "orm"]
        assert diamond.dependents("log") == ["web", "orm"]

    def test_edges(self, diamond):
        assert list(diamond.edges()) == [("app", "web"), ("app", "orm"), ("web", "log"), ("orm", "log")]

    def test_ends(self, diamond):
        assert diamond.roots() == ["app"]
        assert diamond.leaves() == ["log"]

    def test_reversed(self, diamond):
        backwards = diamond.reversed()
        assert backwards.dependencies("log") == ["web", "orm"]
        assert backwards.roots() == ["log"]
        assert list(backwards) == list(diamond)

    def test_reachable(self, diamond):
        assert diamond.reachable("web") == {"web", "log"}
        assert diamond.reachable("web", "orm") == {"web", "orm", "log"}
        assert diamond.reachable() == set()

    def test_reachable_in_a_loop(self, loop):
        assert loop.reachable("b") == {"a", "b", "c", "leaf"}

    def test_subgraph(self, diamond):
        part = diamond.subgraph(["app", "log", "web"])
        assert list(part.edges()) == [("app", "web"), ("web", "log")]

    def test_shortest_path(self):
        graph = Graph({"a": ["b", "c"], "b": ["d"], "d": ["e"], "c": ["e"]})
        assert graph.find_path("a", "e") == ["a", "c", "e"]
        assert graph.find_path("a", "a") == ["a"]
        assert graph.find_path("e", "a") is None
        with pytest.raises(MissingNodeError):
            graph.find_path("a", "z")
        with pytest.raises(MissingNodeError):
            graph.find_path("z", "a")


class TestCycles:
    def test_none(self, diamond):
        assert diamond.find_cycle() is None
        assert Graph().find_cycle() is None

    def test_found(self, loop):
        assert loop.find_cycle() == ["a", "b", "c", "a"]

    def test_self_loop(self):
        assert Graph({"a": ["a"]}).find_cycle() == ["a", "a"]

    def test_behind_finished_nodes(self):
        graph = Graph({"x": ["y"], "y": [], "a": ["y", "b"], "b": ["a"]})
        assert graph.find_cycle() == ["a", "b", "a"]

    def test_two_ways_are_no_cycle(self):
        assert Graph({"a": ["b", "c"], "b": ["c"], "d": ["b", "a"]}).find_cycle() is None

    def test_components(self, loop):
        assert [sorted(part) for part in loop.components()] == [["leaf"], ["a", "b", "c"], ["start"]]

    def test_components_without_cycles(self, diamond):
        assert diamond.components() == [["log"], ["web"], ["orm"], ["app"]]

    @pytest.mark.parametrize("method", ["order", "layers", "reduced"])
    def test_cycles_are_reported(self, loop, method):
        with pytest.raises(CycleError) as caught:
            getattr(loop, method)()
        assert caught.value.cycle == ["a", "b", "c", "a"]
        assert str(caught.value) == "cycle: a -> b -> c -> a"


class TestOrder:
    def test_dependencies_first(self, diamond):
        assert diamond.order() == ["log", "web", "orm", "app"]

    def test_key_decides_among_ready_nodes(self, diamond):
        assert diamond.order(key=lambda node: node) == ["log", "orm", "web", "app"]

    def test_independent_nodes_keep_their_order(self):
        assert Graph({"c": [], "a": [], "b": []}).order() == ["c", "a", "b"]

    def test_every_edge_is_respected(self):
        graph = Graph({n: [m for m in range(1, n) if n % m == 0] for n in range(1, 40)})
        place = {node: index for index, node in enumerate(graph.order(key=lambda n: -n))}
        assert len(place) == 39
        assert all(place[target] < place[node] for node, target in graph.edges())

    def test_empty(self):
        assert Graph().order() == []
        assert Graph().layers() == []


def test_layers(diamond):
    diamond.add("tool", "app", "log")
    diamond.add("alone")
    assert diamond.layers() == [["log", "alone"], ["web", "orm"], ["app"], ["tool"]]


def test_reduced_drops_needless_edges(diamond):
    diamond.add("app", "log")
    diamond.add("tool", "app", "web", "log")
    reduced = diamond.reduced()
    assert reduced.dependencies("app") == ["web", "orm"]
    assert reduced.dependencies("tool") == ["app"]
    assert reduced.layers() == diamond.layers()


def test_dot():
    graph = Graph({"a": ["b"], "c": []})
    assert graph.to_dot("g") == 'digraph g {\n  "a" -> "b";\n  "b";\n  "c";\n}'
