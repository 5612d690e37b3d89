"""Every method of class-conditional GANs under one budget: the same networks, batches, steps and seeds.

`python -m benchmarks.baselines FOLDER [--only SET;…] [--variants NAME;…] [--seeds 3] [--images N] [--minutes M]`

FOLDER holds cifar10-jpeg.zip; the embedded digits need none. Methods differ in head and losses alone, as
`any-projection` is changed by METHODS; what only pays after hours does not show here. The same command goes on where
it was stopped (`benchmarks.study`). `--table FILE` prints a record's tables.
"""

from benchmarks.study import Set, Variant, by_folders, study

SETS = {
    "digits": Set(None, by_folders, 1.0, ["data.source=digits", "data.size=16", "data.channels=1"], 60_000),
    "cifar10": Set("cifar10-jpeg.zip", by_folders, 1.0, ["data.size=32", "data.channels=3", "data.flip=true"], 60_000),
}
METHODS: dict[str, list[str]] = {
    "projection": [],
    "projection, top half": ["objective={name: gan, top: {start: 1, end: 0.5, images: 50000}}"],
    "AC-GAN": ["objective={name: acgan, adversarial: hinge, class_on_fake: false}", "head={name: classifier}"],
    "TAC-GAN": ["objective={name: tacgan}", "head={name: twin}"],
    "ADC-GAN": ["objective={name: adcgan}", "head={name: adc}"],
    "ContraGAN": ["objective={name: contragan}", "head={name: contrastive, embedded: 128}"],
    "ReACGAN": ["objective={name: reacgan}", "head={name: contrastive, embedded: 128}"],
    "MHGAN": ["objective={name: mhgan}", "head={name: classes-and-fake}"],
    "SAN": ["objective={name: san}", "head={name: slicing}"],
    "relativistic, R1 and R2": [
        "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.1, approximate_r2: 0.1}}",
        "schedule.fake_labels=batch",
    ],
}
VARIANTS = {name: Variant("any-projection", options) for name, options in METHODS.items()} | {
    "R3GAN": Variant("digits-r3gan", ["schedule.batch=64"]),
}

if __name__ == "__main__":
    study("baselines", __doc__, SETS, VARIANTS, equal_time=False)
