"""Continue texts token by token, from a cache with a place for each text."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ostinato.inference.packing import pack_weights
from ostinato.kernels import step as kernel
from ostinato.layers import KeyValueCache
from ostinato.models.nanochat import NanoChat


class Decoder:
    def __init__(self, model: NanoChat, slots: int = 1, capacity: int | None = None):
        self.model, self.config = model.packed(), model.config
        config = model.config
        self.capacity = capacity or config.seq_len
        shape = (config.num_layers, slots, config.kv_heads, self.capacity, config.head_dim)
        self.values = torch.zeros(shape, dtype=config.dtype)
        self.keys = torch.zeros_like(self.values.mT.contiguous())
        self.lengths = np.zeros(slots, np.int64)
        self.weights = pack_weights(self.model)
        self.threads = 1
        self.work = {}
        self.pool = None

    def workspace(self, texts):
        c, w = self.config, self.weights
        lanes = max(len(m.lanes) for m in (w.qkv, w.o_proj, w.gate_up, w.down))
        n, p = c.num_streams, w.bias.shape[-1]
        dt = w.embedding.dtype
        f = lambda *s: np.zeros(s, dt)
        return kernel.Work(
            keys=self.keys.numpy(), values=self.values.numpy(),
            streams=f(texts, n, c.hidden_size), mixed=f(texts, n, c.hidden_size),
            mixing=f(texts, 2*n+n*n+p),
            integers=np.zeros((texts,lanes*32), np.int8), negative_sums=np.zeros((texts,lanes*8), np.int32),
            scales=f(texts,lanes), x=f(texts, c.hidden_size),
            qkv=f(texts, int(w.qkv.sizes[0])), scores=f(texts, c.num_heads, self.capacity),
            inner=f(texts, int(w.gate_up.sizes[0])), logits=f(texts, c.vocab_size))

    def phases(self, texts):
        k=kernel; parts = 1 if self.threads==1 else 4*self.threads
        kv=self.config.kv_heads
        out=[(k.BEGIN,0,texts)]
        L=self.config.num_layers
        for l in range(L):
            out += [(k.QKV,l,parts),(k.ATTEND,l,texts*kv),(k.ATTENDED,l,texts),(k.O_PROJ,l,parts),(k.MIDDLE,l,texts),(k.GATE_UP,l,parts),(k.INNER,l,texts),(k.DOWN,l,parts),(k.END if l+1<L else k.LAST,l,texts)]
        out.append((k.HEAD,0,parts))
        return np.array(out)

    def read(self, tokens, slot=0):
        start=int(self.lengths[slot])
        caches=[]
        for k,v in zip(self.keys,self.values):
            c=KeyValueCache((1,1,1,1),k.dtype,k.device); c.keys=k[slot:slot+1].mT; c.values=v[slot:slot+1]; c.length=start
            caches.append(c)
        with torch.no_grad():
            logits=self.model(torch.tensor([list(tokens)]),caches)[0,-1]
        self.lengths[slot]+=len(tokens)
        return logits

    def step(self, tokens, slots):
        texts=len(tokens)
        if texts not in self.work:
            self.work[texts]=(self.workspace(texts), self.phases(texts))
        work, phases = self.work[texts]
        slots=np.array(slots); tokens=np.array(tokens)
        counters=np.zeros(kernel.COUNTERS*len(phases),np.int64)
        args=(phases,counters,tokens,slots,self.lengths[slots],self.weights,work)
        if self.threads>1:
            if self.pool is None: self.pool=ThreadPoolExecutor(self.threads-1)
            for _ in range(self.threads-1): self.pool.submit(kernel.step,*args)
        kernel.step(*args)
        self.lengths[slots]+=1
        return torch.from_numpy(work.logits)
