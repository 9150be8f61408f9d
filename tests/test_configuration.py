"""Recorded constructor arguments, and their JSON files."""

import copy
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pytest
from torch import nn

from filmstrip.configuration import Config, Configured


class Kettle(Configured):
    config_name = "kettle.json"

    def __init__(self, litres: float, colours: tuple[str, ...] = ("red",), *, lid: bool = True) -> None:
        self.litres = litres


class Samovar(Kettle):
    def __init__(self, litres: float = 5.0, coals: int = 9) -> None:
        super().__init__(litres, lid=False)


class Teapot(Configured):
    def __init__(self, litres: float = 1.0, lid: bool = False, spout: int = 1) -> None:
        pass


class Network(Configured, nn.Module):
    def __init__(self, width: int = 3, bias: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width, bias=bias)


def test_positional_keyword_and_default_arguments_are_recorded():
    assert Kettle(2.0, lid=False).config == {"litres": 2.0, "colours": ("red",), "lid": False}


def test_a_config_reads_like_a_dictionary_and_like_an_object():
    config = Kettle(2.0).config
    assert config.litres == config["litres"] == config.get("litres") == dict(**config)["litres"] == 2.0
    assert config.get("handle", 1) == 1
    assert "lid" in config and "handle" not in config and not hasattr(config, "handle")
    assert list(config) == ["litres", "colours", "lid"] and len(config) == 3
    with pytest.raises(KeyError):
        config["handle"]


def test_a_config_is_frozen_and_its_copy_is_not():
    config = Kettle(2.0).config
    with pytest.raises(AttributeError, match="from_config"):
        config.litres = 3.0
    with pytest.raises(TypeError):
        config["litres"] = 3.0
    with pytest.raises(AttributeError, match="frozen"):
        del config.litres
    changed = config.copy()
    changed["litres"] = 3.0
    assert config.litres == 2.0 and config != changed


def test_lists_and_tuples_compare_equal_at_any_depth():
    assert Config({"sizes": ((1, 2), 3)}) == {"sizes": [[1, 2], 3]}
    assert Config({"sizes": (1, 2)}) != {"sizes": [2, 1]}
    assert Config({"sizes": 1}) != [("sizes", 1)]


def test_a_subclass_records_its_own_arguments_not_its_parents():
    assert Samovar(4.0).config == {"litres": 4.0, "coals": 9}


def test_a_subclass_without_a_constructor_records_the_inherited_one():
    class Plain(Kettle):
        pass

    assert Plain(1.5).config.litres == 1.5


def test_a_wrong_call_is_reported_by_the_constructor_itself():
    with pytest.raises(TypeError, match=r"Kettle.__init__\(\) missing 1 required positional argument: 'litres'"):
        Kettle()


def test_open_ended_arguments_are_recorded_by_their_names():
    class Open(Configured):
        def __init__(self, a: int = 1, **more: int) -> None:
            pass

    assert Open(2, b=3).config == {"a": 2, "b": 3}


def test_the_constructor_keeps_its_signature_and_name():
    assert "colours" in Kettle.__init__.__annotations__ and Kettle.__init__.__qualname__ == "Kettle.__init__"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_keep_the_config(again):
    kettle, network = again(Kettle(2.0)), again(Network(width=5))
    assert kettle.config == Kettle(2.0).config and kettle.config.chosen() == {"litres": 2.0}
    assert network.config == {"width": 5, "bias": False} and network.layer.in_features == 5


def test_a_config_is_no_part_of_a_networks_state():
    assert set(Network().state_dict()) == {"layer.weight"}


def test_from_config_rebuilds_the_same_object():
    kettle = Kettle(2.0, ("blue", "green"), lid=False)
    assert Kettle.from_config(kettle.config).config == kettle.config
    assert Kettle.from_config(kettle).config == kettle.config
    assert Kettle.from_config(dict(kettle.config)).config == kettle.config


def test_from_config_ignores_what_the_class_does_not_know():
    assert Teapot.from_config({"litres": 2.0, "handle": 1, "_class_name": "Kettle"}).config.litres == 2.0


def test_another_classes_defaults_are_not_taken_over():
    assert Teapot.from_config(Kettle(2.0).config).config == {"litres": 2.0, "lid": False, "spout": 1}
    assert Teapot.from_config(Kettle(2.0, lid=True).config).config.lid is True


def test_what_only_the_first_class_knows_survives_a_change_of_class_and_back(tmp_path):
    kettle = Kettle(2.0, ("blue",), lid=False)
    teapot = Teapot.from_config(kettle.config, spout=3)
    assert teapot.config == {"litres": 2.0, "lid": False, "spout": 3}  # what it has no argument for is not shown
    assert Kettle.from_config(copy.deepcopy(teapot).config).config == kettle.config
    teapot.save_config(tmp_path)
    assert Kettle.from_config(Teapot.load_config(tmp_path)).config == kettle.config
    teapot.register_to_config(spout=4)
    back = Teapot.from_config(Kettle.from_config(teapot.config, litres=7.0).config)
    assert back.config == {"litres": 7.0, "lid": False, "spout": 4}


def test_arrays_are_recorded_as_lists(tmp_path):
    kettle = Kettle(np.float32(2.0), np.array(["red", "blue"]))
    assert kettle.config["colours"] == ["red", "blue"] and isinstance(kettle.config.litres, float)
    kettle.save_config(tmp_path)
    assert Kettle.from_config(Kettle.load_config(tmp_path)).config == kettle.config


def test_overrides_win_and_unknown_ones_are_refused_with_a_suggestion():
    assert Kettle.from_config({"litres": 2.0}, litres=3.0).config.litres == 3.0
    with pytest.raises(TypeError, match="did you mean 'litres'"):
        Kettle.from_config({"litres": 2.0}, liters=3.0)
    with pytest.raises(TypeError, match="it takes colours, lid, litres"):
        Kettle.from_config({"litres": 2.0}, zzz=3.0)


def test_from_config_refuses_what_is_not_a_mapping():
    with pytest.raises(TypeError, match=r"got str; read a file with Kettle.load_config"):
        Kettle.from_config("folder")


def test_a_saved_config_is_plain_json_and_loads_again(tmp_path):
    Kettle(2.0, ("blue",)).save_config(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / "kettle.json"
    content = json.loads(path.read_text())
    assert content.pop("_filmstrip_version") and content.pop("_class_name") == "Kettle"
    assert content == {"litres": 2.0, "colours": ["blue"], "lid": True}
    for place in (path, path.parent, str(path.parent)):
        assert Kettle.from_config(Kettle.load_config(place)).config == Kettle(2.0, ("blue",)).config


def test_a_config_that_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        Kettle(object()).save_config(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no kettle.json in .*, which Kettle needs"):
        Kettle.load_config(tmp_path)
    (tmp_path / "kettle.json").write_text("{")
    with pytest.raises(ValueError, match=r"kettle.json is not valid JSON"):
        Kettle.load_config(tmp_path)
    (tmp_path / "kettle.json").write_text("[]")
    with pytest.raises(ValueError, match=r"must hold one JSON object, got list"):
        Kettle.load_config(tmp_path)


def test_importing_it_does_not_import_torch():
    code = "import sys, filmstrip.configuration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_setting_that_a_class_knows_with_one_value_only_is_refused_with_another():
    class Fixed(Configured):
        fixed_settings: ClassVar = {"norm": "plain"}

        def __init__(self, width: int = 1) -> None:
            self.width = width

    for value in ("plain", None):
        assert Fixed.from_config({"width": 2, "norm": value}).config.foreign() == {"norm": value}
    with pytest.raises(ValueError, match="Fixed can't be built with norm='other'; it knows 'plain' only"):
        Fixed.from_config({"width": 2, "norm": "other"})


class Typed(Configured):
    config_name = "typed.json"

    def __init__(
        self,
        width: int = 1,
        share: float = 0.5,
        kind: Literal["plain", "other"] = "plain",
        sizes: Sequence[int] | None = None,
        is_wide: bool = False,
        lowest: float = -math.inf,
    ) -> None:
        assert width != 13
        self.table = [1, 2, 3][width - 1 if width < 100 else 0] / (1 - share)


MISTAKES = [
    ({"width": "8"}, "width must be a whole number, got '8'"),
    ({"width": 1.5}, "width must be a whole number, got 1.5"),
    ({"width": True}, "width must be a whole number, got True"),
    ({"width": None}, "width must be a whole number, got None"),
    ({"width": 10**7}, "width can be 1,000,000 at most, got 10000000"),
    ({"sizes": [1, -(10**9)]}, "sizes can be 1,000,000 at most"),
    ({"share": math.inf}, "share must be a number, got inf"),
    ({"kind": "odd"}, "kind must be one of 'plain', 'other', got 'odd'"),
    ({"kind": ["plain"]}, "kind must be one of 'plain', 'other', got \\['plain'\\]"),
    ({"sizes": {"a": 1}}, "sizes must be a list .* a whole number, got {'a': 1}"),
    ({"sizes": [1, "x" * 1000]}, "sizes must be a list .* a whole number, got .{57}\\.\\.\\."),
    ({"is_wide": 1}, "is_wide must be true or false, got 1"),
    ({"width": 13}, "its entries do not fit together"),
    ({"width": 7}, "its entries do not fit together"),
    ({"share": 1}, "its entries do not fit together"),
]


@pytest.mark.parametrize(("entries", "reason"), MISTAKES)
def test_an_entry_of_another_type_is_named_with_its_file(tmp_path, entries, reason):
    (tmp_path / "typed.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=rf"typed\.json describes no Typed that can be built: {reason}") as error:
        Typed.from_folder(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_json_may_write_whole_numbers_as_others_and_lists_for_tuples(tmp_path):
    (tmp_path / "typed.json").write_text(
        '{"width": 2.0, "share": 0, "sizes": [1, 2], "lowest": -Infinity, "_more": {}}'
    )
    typed = Typed.from_folder(tmp_path)
    assert typed.config == {
        "width": 2, "share": 0, "sizes": [1, 2], "kind": "plain", "is_wide": False, "lowest": -math.inf,
    }  # fmt: skip
    assert type(typed.config.width) is int
    assert Typed.from_folder(tmp_path, share=0.25).config.share == 0.25
    with pytest.raises(TypeError, match="did you mean 'width'"):
        Typed.from_folder(tmp_path, widht=1)
