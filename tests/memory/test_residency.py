"""Units of weights that come to a device when they are read, and go home."""

import copy
import pickle

import pytest
import torch
from torch import nn

from filmstrip.memory import couriers
from filmstrip.memory.residency import Grain, execution_device, place, release, remove
from tests.memory.counting import counts, present  # noqa: F401
from tests.memory.other_device import OTHER, There, install

SIZE = 16 * 16 * 4  # bytes of a layer's weight
UNIT = SIZE + 16 * 4  # and of its bias


@pytest.fixture(autouse=True)
def other_device(monkeypatch):
    install(monkeypatch)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.scale = nn.Parameter(torch.ones(16))

    def forward(self, hidden_states):
        return self.layer(hidden_states) * self.scale


class Network(nn.Module):
    """Layers outside of blocks, blocks, tied weights and buffers."""

    def __init__(self, num_blocks=4):
        super().__init__()
        self.entrance, self.exit = nn.Linear(16, 16), nn.Linear(16, 16)
        self.exit.weight = self.entrance.weight
        self.blocks = nn.ModuleList([Block() for _ in range(num_blocks)])
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, hidden_states):
        hidden_states = self.entrance(hidden_states) - self.mean
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.exit(hidden_states)


def networks(**named):
    return {"first": Network(), "second": Network(), **named}


def inputs():
    return torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).to(OTHER)


@torch.no_grad()
def test_reading_brings_and_listing_does_not():
    both = networks()
    place(both, OTHER, Grain())
    first = both["first"]
    assert {tensor.device.type for tensor in (*first.parameters(), *first.buffers())} == {"cpu"}
    assert {tensor.device.type for tensor in first.state_dict().values()} == {"cpu"}
    assert present(both) == []
    assert first.mean.device == OTHER
    assert present(both) == ["first"]


@torch.no_grad()
def test_a_component_makes_room_for_the_next():
    both = networks()
    place(both, OTHER, Grain())
    for name in ("first", "second", "first"):
        both[name](inputs())
        assert present(both) == [name]
    release(both["first"])
    assert present(both) == []


@torch.no_grad()
def test_components_that_work_in_turns_stay_side_by_side(counts):  # noqa: F811
    three = networks(third=Network())
    place(three, OTHER, Grain(), together=("first", "second"))
    for name in ("first", "second", "first", "second"):
        three[name](inputs())
    assert present(three) == ["first", "second"]
    assert counts.units == ["first", "second"]
    three["third"](inputs())
    assert present(three) == ["third"]


@torch.no_grad()
def test_what_stays_home_is_mapped_or_shared_as_before():
    network = Network()
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    place({"first": network}, OTHER, Grain("leaves"))
    network(inputs())
    release(network)
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == before
    remove(network)
    assert type(network._parameters) is dict and network.exit.weight is network.entrance.weight
    assert "_placement" not in vars(network)


@torch.no_grad()
def test_tied_weights_are_tied_on_the_device_too(counts):  # noqa: F811
    network = Network(num_blocks=0)
    place({"first": network}, OTHER, Grain())
    assert network.entrance.weight is network.exit.weight
    assert counts.now == SIZE + 3 * 16 * 4


@pytest.mark.parametrize(
    ("grain", "most"),
    [
        (Grain("leaves"), UNIT),
        (Grain("blocks", 1), (SIZE + 3 * 64) + (UNIT + 64)),
        (Grain("blocks", 3), (SIZE + 3 * 64) + 3 * (UNIT + 64)),
        (Grain("blocks", 9), (SIZE + 3 * 64) + 4 * (UNIT + 64)),
        (Grain(), (SIZE + 3 * 64) + 4 * (UNIT + 64)),
    ],
)
@torch.no_grad()
def test_no_more_is_there_than_the_grain_says(grain, most, counts):  # noqa: F811
    network = Network()
    place({"first": network}, OTHER, grain)
    network(inputs())
    assert counts.most == most


@torch.no_grad()
def test_on_a_stream_two_groups_are_there_and_each_is_copied_once_a_pass(counts):  # noqa: F811
    network = Network()
    place({"first": network}, OTHER, Grain("blocks"), streamed=True)
    expected = Network.forward(copy.deepcopy(network).to(OTHER), inputs()).cpu()
    courier = vars(network)["_placement"].courier
    for passes in (1, 2, 3):
        assert torch.equal(network(inputs()).cpu(), expected)
        courier._thread.submit(bool).result()  # all that was begun is done
        ahead = 1 if passes > 1 else 0  # the first block of a pass that may follow
        assert len(counts.units) == 1 + 4 * passes + ahead
    assert counts.most == (SIZE + 3 * 64) + 2 * (UNIT + 64)
    room = 2 * 256 * -(-SIZE // 256) + 4 * 256  # two buffers of a block: a weight, and two small tensors
    assert courier.bytes_pinned == room
    release(network)
    assert (counts.now, courier.bytes_pinned) == (0, 0)


@torch.no_grad()
def test_a_stream_that_guesses_wrong_copies_what_is_wanted(counts):  # noqa: F811
    network = Network()
    place({"first": network}, OTHER, Grain("blocks"), streamed=True)
    expected = [block(inputs()).cpu() for block in copy.deepcopy(network).to(OTHER).blocks]
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 0, 1, 2], [1, 1, 0, 0]):
        for index in order:
            assert torch.equal(network.blocks[index](inputs()).cpu(), expected[index])
    assert counts.most <= 2 * (UNIT + 64)


@torch.no_grad()
def test_an_error_of_the_copying_thread_reaches_the_caller(monkeypatch):
    network = Network()
    place({"first": network}, OTHER, Grain("blocks"), streamed=True)
    network(inputs())
    send = couriers.StreamCourier._send

    def fail(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(couriers.StreamCourier, "_send", fail)
    with pytest.raises(torch.OutOfMemoryError):
        network(inputs())
        network(inputs())
    monkeypatch.setattr(couriers.StreamCourier, "_send", send)
    release(network)
    assert present({"first": network}) == []
    network(inputs())


@pytest.mark.parametrize("grain", [Grain(), Grain("leaves"), Grain("blocks")], ids=lambda grain: grain.name)
@torch.no_grad()
def test_what_is_changed_on_the_device_is_kept(grain):
    network = Network()
    place({"first": network}, OTHER, grain)
    network.blocks[0].layer.weight.fill_(2.0)
    assert float(network.mean.sum()) == 0
    network.mean = torch.full((16,), 3.0).to(OTHER)
    assert float(network.blocks[1].scale.sum()) == 16
    network.blocks[1].scale = nn.Parameter(torch.full((16,), 4.0).to(OTHER))
    network(inputs())
    network.exit.bias = None
    network.blocks[2](inputs())
    network.blocks[2].register_buffer("more", torch.full((16,), 5.0).to(OTHER))
    for finish in (release, release, remove):
        finish(network)
        state = network.state_dict()
        assert {tensor.device.type for tensor in state.values()} == {"cpu"}
        assert "exit.bias" not in state
        values = {name: float(tensor.flatten()[0]) for name, tensor in state.items()}
        assert values["blocks.0.layer.weight"] == 2.0
        assert (values["mean"], values["blocks.1.scale"], values["blocks.2.more"]) == (3.0, 4.0, 5.0)
        if finish is release:
            network(inputs())


@torch.no_grad()
def test_a_copy_is_an_ordinary_network_whether_the_original_is_home_or_not():
    network = Network()
    expected = network(inputs().cpu())
    place({"first": network}, OTHER, Grain("blocks"))
    for _ in range(2):
        copied = copy.deepcopy(network).to("cpu")
        assert type(copied._parameters) is dict and "_placement" not in {k for k, v in vars(copied).items() if v}
        assert torch.equal(copied(inputs().cpu()), expected)
        network(inputs())
    release(network)
    assert torch.equal(pickle.loads(pickle.dumps(network.blocks[0])).scale, torch.ones(16))


@torch.no_grad()
def test_a_network_may_belong_to_two_placements_one_after_the_other():
    both, shared = networks(), Network()
    place({"a": both["first"], "shared": shared}, OTHER, Grain())
    place({"b": both["second"], "shared": shared}, OTHER, Grain("blocks"))
    for network in (both["first"], shared, both["second"], shared, both["first"]):
        assert isinstance(network(inputs()), There)
    remove(both["first"])
    assert isinstance(shared(inputs()), There)
    assert both["first"].entrance.weight.device.type == "cpu"


@torch.no_grad()
def test_a_quantised_weight_comes_as_what_it_is():
    class Doubled(torch.Tensor):
        """A tensor that is more than its numbers."""

        def to(self, *args, **kwargs):
            return torch.Tensor._make_subclass(
                Doubled, torch.Tensor.to(self.as_subclass(torch.Tensor), "cpu", copy=True)
            )

    for streamed in (False, True):
        network = Network(num_blocks=1)
        network.blocks[0].scale = nn.Parameter(torch.ones(16).as_subclass(Doubled), requires_grad=False)
        place({"first": network}, torch.device("cpu"), Grain("blocks"), streamed=streamed)
        assert isinstance(network.blocks[0].scale, Doubled) and isinstance(network.blocks[0].scale, nn.Parameter)
        release(network)


def test_where_a_network_computes_is_known_without_bringing_anything():
    both = networks()
    assert execution_device(both["first"]).type == "cpu"
    place(both, OTHER, Grain())
    assert execution_device(both["first"]) == OTHER
    assert execution_device(nn.Sequential(both["first"])) == OTHER
    assert present(both) == []
    assert execution_device(nn.Identity()).type == "cpu"


@pytest.mark.parametrize("grain", [Grain(), Grain("blocks"), Grain("leaves")], ids=lambda grain: grain.name)
def test_a_compiled_network_gives_the_same(grain, caplog):
    network = Network()
    with torch.no_grad():
        given = inputs().cpu()
        expected = network(given)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    place({"first": compiled}, torch.device("cpu"), grain)
    for _ in range(3):
        with torch.inference_mode():
            torch.testing.assert_close(compiled(given), expected)
        release(compiled)
    assert ("runs as it is written" in caplog.text) == (grain.name != "components")
    remove(compiled)
    assert "forward" in vars(compiled) and type(network._parameters) is dict
    torch.testing.assert_close(compiled(given), expected)


@pytest.mark.parametrize("grain", [Grain(), Grain("blocks"), Grain("leaves")], ids=lambda grain: grain.name)
def test_compiled_blocks_stay_compiled_where_they_come_as_a_whole(grain, caplog):
    network, seen = Network(), []

    def backend(graph, _):
        seen.append(graph)
        return graph.forward

    for block in network.blocks:
        block.compile(fullgraph=True, backend=backend)
    given = inputs().cpu()
    place({"first": network}, torch.device("cpu"), grain)
    with torch.no_grad():
        expected = copy.deepcopy(network)(given)
        seen.clear()
        torch._dynamo.reset()
        for _ in range(2):
            torch.testing.assert_close(network(given), expected)
            release(network)
    assert bool(seen) == (grain.name != "leaves")
