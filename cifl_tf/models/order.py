"""Whether the layers of a functional network can be called in some order.

Keras calls a layer of a ``config.json`` once the outputs that it takes are there, and tries again
forever where two layers wait for each other. An output is a layer's name and the number of the
call that gave it.
"""

from collections.abc import Mapping

IMAGE_MODEL = "cifl_tf>ImageModel"


def check_order(layers: list[dict], own: Mapping[str, type]) -> None:
    """Refuse layers that wait for each other.

    Args:
        layers: of the config of a functional network.
        own: classes of this package by their registered names.

    Raises:
        ValueError: there is no order.
    """
    if any("shared_object_id" in layer for layer in layers):
        raise ValueError("it shares layers between networks")
    made: dict[str, int] = {}
    waiting: dict[str, list] = {}
    inputs = {layer["name"] for layer in layers if layer["class_name"] == "InputLayer"}
    first = {layer["name"]: _first_call(layer, own) for layer in layers}
    for layer in layers:
        made[layer["name"]] = first[layer["name"]]
        calls = [_taken(call, first) for call in layer["inbound_nodes"]]
        waiting.setdefault(layer["name"], []).extend(calls)

    def is_made(name, call):
        return name in inputs or first[name] <= call < made[name]

    progress = True
    while progress:
        progress = False
        for name, calls in waiting.items():
            while calls and all(is_made(*output) for output in calls[0]):
                calls.pop(0)
                made[name] += 1
                progress = True
    if any(waiting.values()):
        raise ValueError("it has layers that wait for each other's outputs")


def count_calls(node) -> int:
    """Calls of layers that building an object of a config takes, at least 1.

    A network within a network is called as often as each of its layers.
    """
    if isinstance(node, dict) and "input_layers" in node:
        return sum(len(each["inbound_nodes"]) * count_calls(each) for each in node["layers"])
    if isinstance(node, dict):
        node = list(node.values())
    if not isinstance(node, list):
        return 1
    return max([1, *(count_calls(each) for each in node)])


def _first_call(layer, own):
    """Number of the first call: a network counts that of its own input before."""
    kind = own.get(layer.get("registered_name") or "")
    if kind is not None:
        return int(issubclass(kind, own[IMAGE_MODEL]))
    if layer["class_name"] == "Sequential":
        inner = layer["config"]["layers"]
        return int(not inner or inner[0]["class_name"] == "InputLayer")
    return int(layer["class_name"] == "Functional")


def _taken(node, names):
    """Outputs that a call takes: lists [name, call, ...] anywhere in its arguments."""
    if isinstance(node, dict):
        return [output for each in node.values() for output in _taken(each, names)]
    if not isinstance(node, list):
        return []
    found = [output for each in node for output in _taken(each, names)]
    if len(node) > 2 and isinstance(node[0], str) and node[0] in names:
        found.append((node[0], node[1]))
    return found
