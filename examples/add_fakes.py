"""Train a small ResNet of torchvision on class folders, alone and with the fakes that `condgan utility --write` gave.

python examples/add_fakes.py REAL FAKES TEST [--size 32] [--epochs 30] [--seeds 5]

REAL, FAKES and TEST are folders of class folders. Nothing of condgan is used. Both classifiers of a seed take as many
steps. Prints their balanced accuracies on TEST.
"""

import argparse

import torch
import torch.nn.functional as F
from torchvision.datasets import ImageFolder
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms import v2

BATCH, RATE = 64, 3e-3


def read(path: str, classes: list[str], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of class folders, some of which may lack, in [-1, 1]; numbered as `classes`."""
    steps = [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    found = ImageFolder(path, v2.Compose([*steps, v2.Normalize([0.5], [0.5])]))
    images, labels = zip(*found, strict=True)
    return torch.stack(images), torch.tensor([classes.index(found.classes[label]) for label in labels])


def balanced_accuracy(train: tuple, test: tuple, classes: int, steps: int, seed: int) -> float:
    """Of a classifier that learned for so many batches, on the mean over classes."""
    torch.manual_seed(seed)
    (images, labels), (others, truth) = train, test
    crop = v2.RandomCrop(images.shape[-1], padding=images.shape[-1] // 8, padding_mode="edge")
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        index = torch.randint(len(images), (BATCH,))
        batch = torch.cat([crop(group) for group in images[index].split(BATCH // 8)])
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels[index]).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        right = torch.cat([network(group).argmax(1) for group in others.split(500)]) == truth
    return float(torch.stack([right[truth == number].float().mean() for number in truth.unique()]).mean())


def main() -> None:
    """Real images, and these and fakes, by turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real")
    parser.add_argument("fakes")
    parser.add_argument("test")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=30, help="of the real images")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    classes = ImageFolder(given.real).classes
    real, fakes, test = (read(path, classes, given.size) for path in (given.real, given.fakes, given.test))
    both = tuple(torch.cat(pair) for pair in zip(real, fakes, strict=True))
    steps, gains = round(given.epochs * len(real[0]) / BATCH), []
    for seed in range(given.seeds):
        alone, mixed = (balanced_accuracy(train, test, len(classes), steps, seed) for train in (real, both))
        gains.append(mixed - alone)
        print(f"real {100 * alone:.1f} %, real and fakes {100 * mixed:.1f} %, {100 * gains[-1]:+.1f}", flush=True)
    print(f"mean {100 * sum(gains) / len(gains):+.1f}")


if __name__ == "__main__":
    main()
