import sys, anyio, signal
from pathlib import Path
import argparse


def main():
    from syncer.config import load
    from syncer.run import Run, RunOptions
    from syncer.events import Observer

    p = argparse.ArgumentParser()
    p.add_argument("--auth")
    p.add_argument("--images")
    p.add_argument("--proc", type=int, default=5)
    p.add_argument("--retries", type=int, default=2)
    a = p.parse_args()

    class O(Observer):
        n = {}

        def on_image_failed(self, e):
            print("FAILED", e.source, e.destination, e.failure.message)

        def on_request_sent(self, e):
            k = (e.registry, e.method, e.endpoint, e.status)
            self.n[k] = self.n.get(k, 0) + 1

        def on_blob_placed(self, e):
            self.n[e.outcome] = self.n.get(e.outcome, 0) + 1

    c = load(Path(a.auth), Path(a.images))

    async def go():
        r = Run(c.rules, c.auth, RunOptions(a.proc, a.retries), observers=[O()])
        print(await r.execute())
        for k, v in O.n.items():
            print(k, v)

    anyio.run(go)
