"""Training on several machines or GPUs: which of them this process is, and who writes files.

One process trains on each machine, all by the same command, with a folder that all of them see.
TensorFlow's ``MultiWorkerMirroredStrategy`` keeps their weights the same.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
    expand_hostlist,
    expand_tasks_per_node,
)

from cifl_tf._random_keys import WHOLE, Share

# What TensorFlow raises in a process when another one has ended.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


FIRST_PORT, NUM_PORTS, PORTS = 20000, 10000, 16  # from which jobs take some each


def num_workers() -> int:
    """Processes that train together, by ``TF_CONFIG`` or by the step of a SLURM job.

    Raises:
        ValueError: ``TF_CONFIG`` is no JSON object of a cluster and a task.
    """
    text = os.environ.get("TF_CONFIG")
    if text:
        try:
            config = json.loads(text)
            machines = config["cluster"]
            return len(machines.get("chief", [])) + len(machines.get("worker", []))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f'TF_CONFIG is {text!r}; give {{"cluster": {{"worker": ["host:port", ...]}}, '
                '"task": {"type": "worker", "index": 0}}, or unset it to train on one machine'
            ) from error
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return int(tasks) if tasks.isdecimal() else 1


def slurm_cluster() -> dict[str, Any]:
    """What ``TF_CONFIG`` would hold in this task of a SLURM job."""
    # Jobs on one machine get ports of their own. TensorFlow's own resolver refuses machines without
    # GPUs, and sorts node10 before node9, while SLURM counts tasks in the order of its list.
    first = FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) * PORTS % NUM_PORTS
    hosts = expand_hostlist(os.environ["SLURM_STEP_NODELIST"])
    counts = expand_tasks_per_node(os.environ["SLURM_STEP_TASKS_PER_NODE"])
    workers = [
        f"{host}:{first + task}"
        for host, count in zip(hosts, counts, strict=True)
        for task in range(count)
    ]
    task = {"type": "worker", "index": int(os.environ["SLURM_PROCID"])}
    return {"cluster": {"worker": workers}, "task": task}


@contextlib.contextmanager
def training_scope() -> Iterator[None]:
    """The scope of the strategy that the environment asks for; to be entered before all else.

    ``MultiWorkerMirroredStrategy`` where several processes train together, ``MirroredStrategy``
    where this machine has several GPUs, and nothing otherwise.

    Raises:
        ValueError: as ``num_workers``.
        ConnectionError: another process of the training has ended.
    """
    if num_workers() > 1:
        if not os.environ.get("TF_CONFIG"):
            os.environ["TF_CONFIG"] = json.dumps(slurm_cluster())
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif len(tf.config.list_logical_devices("GPU")) > 1:
        strategy = tf.distribute.MirroredStrategy()
    else:
        yield
        return
    try:
        with strategy.scope():
            yield
    except LOST as error:
        raise ConnectionError(
            "another process of this training has ended; start all of them again with the same "
            f"command, which goes on after the last epoch ({str(error).splitlines()[0]})"
        ) from error


def is_chief() -> bool:
    """Whether this process writes the files of a training: the first one, or the only one."""
    return task_index() == 0


def task_index() -> int:
    """Number of this process among those that train together, from 0."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None:
        return 0
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", []))
    return (resolver.task_id or 0) + (0 if resolver.task_type == "chief" else chiefs)


def in_parts(make: Callable[..., tf.data.Dataset]):
    """The data that this process trains on, of a function of the ``share`` of each batch."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return make(share=WHOLE)

    def dataset(context):
        machines = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // machines
        return make(share=Share(context.input_pipeline_id, machines, replicas))

    return strategy.distribute_datasets_from_function(dataset)


def whole_on_each(data: tf.data.Dataset) -> dict[str, Any]:
    """Validation data of ``fit`` that each process goes through as a whole.

    Args:
        data: batches, of a known number.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync // max(1, num_workers())
    # Replicas of one process take turns: each gets every batch.
    each = data.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas))
    return {
        "validation_data": strategy.distribute_datasets_from_function(lambda _: each),
        "validation_steps": int(data.cardinality()),
    }


def outside(function: Callable, *args):
    """What a function gives outside of the scope of the strategy.

    Keras cannot load the metrics of a model inside. A scope holds for one thread.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result()


def wait_for_all() -> None:
    """Return once all processes that train together have come here."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        ones = strategy.run(lambda: tf.constant(1.0))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)
