"""An epoch of a readout on a frozen encoder: readout_epoch_zoo.py CRYSTALS, from cached embeddings and without."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import torch
from passes import matmul_flops
from serve import serve

from zoo.config import plugins
from zoo.config.recipe import Training, read
from zoo.graphs.store import GraphStore
from zoo.model import tensor_model as models
from zoo.model.embedding_store import EmbeddingStore
from zoo.training.batches import Batches, Samples
from zoo.workflows.train import target_of

recipe = read("dtnet_total")
dataset = plugins.load("dataset", recipe.dataset.name)(plugins.hypers("dataset", recipe.dataset.name, {}))
records = list(itertools.islice(dataset.records(), int(sys.argv[1])))
target = target_of(recipe)
torch.manual_seed(0)
model = models.build(recipe.encoder, recipe.readout, target)
optimizer = torch.optim.AdamW(model.learned().parameters(), lr=recipe.training.learning_rate)
tensors = torch.stack([torch.as_tensor(record.targets[recipe.target], dtype=torch.float32) for record in records])
model.fit_normaliser(tensors)
model.train()


def epoch(embeddings: EmbeddingStore | None) -> None:
    samples = Samples(graphs, tensors, model.encoder, embeddings)
    settings = Training(batch_size=recipe.training.batch_size)
    for batch in Batches(samples, range(len(records)), settings, torch.device("cpu"), seed=0):
        assert batch is not None  # in one process there always is one
        optimizer.zero_grad(set_to_none=True)
        predicted = model(batch.crystals, batch.embedding)
        (predicted - batch.tensors).abs().mean().backward()
        optimizer.step()


with tempfile.TemporaryDirectory() as name:
    graphs = GraphStore.build([record.structure for record in records], model.encoder.cutoff, cache=Path(name))
    embeddings = EmbeddingStore.build(model.encoder, graphs, cache=Path(name))
    embeddings.precompute(model.readout, model.encoder)
    size = {"items": len(records), "atoms": int(graphs.n_atoms.sum()), "edges": int(graphs.n_edges.sum())}
    passes = {"cached": lambda: epoch(embeddings), "encoder": lambda: epoch(None)}
    serve(passes, {order: size | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
