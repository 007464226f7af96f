"""Training on several machines or GPUs: which of them this process is, and who writes files.

One process trains on each machine, all by the same command, with a folder that all of them see.
TensorFlow's ``MultiWorkerMirroredStrategy`` keeps their weights the same.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf

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
    tasks = num_workers()
    # Jobs on one machine get ports of their own. The numbers of GPUs only serve to be accepted by
    # the resolver, which refuses machines without: each task trains on the devices that it sees.
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) * PORTS % NUM_PORTS,
        gpus_per_node=tasks,
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    cluster = resolver.cluster_spec().as_dict()
    kind, index = resolver.get_task_info()
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


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
    resolver = tf.distribute.get_strategy().cluster_resolver
    return task_index() == 0 or resolver.task_type == "chief"


def task_index() -> int:
    """Number of this process among those that train together, from 0."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return 0 if resolver is None else resolver.task_id or 0


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
    return {
        "validation_data": strategy.distribute_datasets_from_function(lambda _: data),
        "validation_steps": math.ceil(int(data.cardinality()) / replicas),
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
