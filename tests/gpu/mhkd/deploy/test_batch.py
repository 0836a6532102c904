"""Images that were sent ahead arrive whole, whatever the GPU does meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from mhkd.deploy.batch import send_images


def test_images_arrive_whole_while_the_gpu_computes_and_other_threads_send():
    rng = np.random.default_rng(0)
    batches = [[rng.integers(0, 256, (512, 512, 3), dtype=np.uint8) for _ in range(4)] for _ in range(24)]
    busy = torch.randn(4096, 4096, device="cuda")
    with ThreadPoolExecutor(4) as pool:
        for images, sent in zip(batches, pool.map(lambda images: send_images(images, "cuda"), batches), strict=True):
            busy = busy @ busy
            busy /= busy.norm()
            for image, one in zip(images, sent.inputs(), strict=True):
                assert one["image"].is_cuda
                np.testing.assert_array_equal(one["image"].cpu().numpy(), image.transpose(2, 0, 1))


def test_sending_does_not_wait_for_what_the_gpu_computes():
    image = np.zeros((256, 256, 3), np.uint8)
    send_images([image], "cuda").inputs()  # the stream and the pinned memory are there from now on
    torch.cuda.synchronize()
    matrix = torch.randn(8192, 8192, device="cuda")
    for _ in range(20):
        matrix = matrix @ matrix
    computed = torch.cuda.current_stream().record_event()
    sent = send_images([image], "cuda").sent
    assert sent is not None
    sent.synchronize()
    assert not computed.query()
    torch.cuda.synchronize()
