import hashlib, math
from contextlib import contextmanager
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF
from corrmatch.data import Folder, read_image, read_mask
from corrmatch.splits import Split
@contextmanager
def seeded(*key):
    "Inside, torch's generator starts from a hash of the key; outside, it is as if nothing had been drawn."
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") % 2**63
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
def uniform(low: float, high: float) -> float:
    "A number between low and high."
    return low + (high - low) * torch.rand(()).item()
def integer(low: int, high: int) -> int:
    "An integer from low to high, both included."
    return int(torch.randint(low, high + 1, ()))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red green blue
def normalise(image: Image.Image) -> torch.Tensor:  # (3,H,W)
    "A PIL image as normalised float tensor."
    return TF.normalize(TF.to_dtype(TF.pil_to_tensor(image), torch.float32, scale=True), MEAN, STD)
def denormalise(tensor) -> np.ndarray:  # (H,W,3) uint8
    "A normalised tensor as picture."
    x = tensor.detach().cpu().float() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
def scaled_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    "Width and height after the long side has become `long_side`; the other side is rounded half up."
    w, h = size
    return (long_side, max(int(h * long_side / w + 0.5), 1)) if w >= h else (max(int(w * long_side / h + 0.5), 1), long_side)
def resize_crop_flip(
    image: Image.Image,     # RGB
    mask: Image.Image,      # class ids, or None
    crop: int,              # side of the crop, pixels
    scale=(0.5, 2.0),       # range of the long side, relative
    fill: int = 255,        # mask value of the padding
) -> tuple[Image.Image, Image.Image | None, Image.Image]:  # image, mask, and 255 where the image is, 0 in the padding
    "The weak view: random resize, padding at the right and bottom, random crop, flip."
    long = max(image.size)
    size = scaled_size(image.size, integer(math.floor(scale[0] * long), math.floor(scale[1] * long)))
    pad = [0, 0, max(crop - size[0], 0), max(crop - size[1], 0)]
    x, y, flip = integer(0, size[0] + pad[2] - crop), integer(0, size[1] + pad[3] - crop), torch.rand(()).item() < 0.5
    def cut(picture, resample, fill):
        picture = TF.crop(TF.pad(picture.resize(size, resample), pad, fill=fill), y, x, crop, crop)
        return TF.horizontal_flip(picture) if flip else picture
    return (cut(image, Image.BILINEAR, 0), None if mask is None else cut(mask, Image.NEAREST, fill), cut(Image.new("L", image.size, 255), Image.NEAREST, 0))
def strong_view(jitter=0.5, hue=0.25, p_jitter=0.8, p_grey=0.2, p_blur=0.5, sigma=(0.1, 2.0)):
    "Colour jitter, greyscale and blur, each with its probability: what is done to the strong view of a PIL image."
    return v2.Compose([v2.RandomApply([v2.ColorJitter(jitter, jitter, jitter, hue)], p_jitter), v2.RandomGrayscale(p_grey),
                       v2.RandomApply([v2.GaussianBlur(2 * math.ceil(3 * sigma[1]) + 1, sigma)], p_blur)])
def cutmix_box(
    size: int,              # side of the crop
    p: float = 0.5,         # probability of a box
    area=(0.02, 0.4),       # range of its area, relative
    ratio=(0.3, 1 / 0.3),   # range of height / width
) -> torch.Tensor:          # (size, size) bool, True inside
    "The CutMix box, or none."
    box = torch.zeros(size, size, dtype=torch.bool)
    if torch.rand(()).item() >= p: return box
    pixels = uniform(*area) * size * size
    while True:
        r = uniform(*ratio)
        h, w, x, y = int(math.sqrt(pixels * r)), int(math.sqrt(pixels / r)), integer(0, size - 1), integer(0, size - 1)
        if x + w <= size and y + h <= size: break
    box[y:y + h, x:x + w] = True
    return box
def to_bool(image: Image.Image) -> torch.Tensor: return torch.from_numpy(np.asarray(image) > 0)
def to_labels(mask: Image.Image) -> torch.Tensor: return torch.from_numpy(np.asarray(mask).astype(np.int64))
class TrainingViews(Dataset):
    "One epoch of training items: a labelled image, and the weak and strong view of an unlabelled one."
    def __init__(self, folder: Folder, split: Split, crop: int, seed=0, epoch=0, rank=0, world=1, partner="batch", scale=(0.5, 2.0), strong=None, labelled_only=False):
        if partner not in ("batch", "crop"): raise ValueError(f"partner is {partner!r}; choose batch or crop")
        self.folder, self.split, self.crop, self.seed, self.epoch, self.rank, self.world = folder, split, crop, seed, epoch, rank, world
        self.partner, self.scale, self.strong, self.labelled_only = partner, scale, strong or strong_view(), labelled_only

    def __len__(self): return len(self.split.unlabelled or self.split.labelled) // self.world

    def order(self) -> tuple[list[str], list[str]]:
        "The labelled and the unlabelled ids of this epoch, in order, for all ranks."
        labelled, unlabelled = self.split.labelled, self.split.unlabelled
        n = len(unlabelled or labelled)
        with seeded("order", self.seed, self.epoch):
            u = [unlabelled[i] for i in torch.randperm(n)] if unlabelled else []
            x = torch.randperm(math.ceil(n / len(labelled)) * len(labelled))[:n] % len(labelled)
        return [labelled[i] for i in x], u

    def __getitem__(self, i):
        x_ids, u_ids = self._order()
        i = i * self.world + self.rank
        item = {"id_x": x_ids[i]}
        with seeded("labelled", self.seed, self.epoch, i, x_ids[i]):
            image, mask, _ = resize_crop_flip(read_image(self.folder.image_path(x_ids[i])), read_mask(self.folder.mask_path(x_ids[i])), self.crop, self.scale)
            item |= {"image_x": normalise(image), "labels_x": to_labels(mask)}
        if self.labelled_only or not u_ids: return item
        picture = read_image(self.folder.image_path(u_ids[i]))
        item["id_u"] = u_ids[i]
        for stream, end in (("first", ""), ("second", "_mix"))[:1 + (self.partner == "crop")]:
            with seeded("unlabelled", stream, self.seed, self.epoch, i, u_ids[i]):
                weak, _, valid = resize_crop_flip(picture, None, self.crop, self.scale)
                item |= {f"image_w{end}": normalise(weak), f"image_s{end}": normalise(self.strong(weak)), f"valid_{end[1:] or 'u'}": to_bool(valid)}
                if not end: item["box"] = cutmix_box(self.crop)
        return item

    def _order(self):
        if getattr(self, "_cached", (None,))[0] != self.epoch: self._cached = (self.epoch, self.order())
        return self._cached[1]
def batches(
    dataset: Dataset,  # TrainingViews
    batch: int,        # items per batch; an incomplete last batch is dropped
    workers: int = 0,  # processes that load
    start: int = 0,    # first batch, to continue in the middle of an epoch
) -> DataLoader:
    "The batches of an epoch in their fixed order, from `start` on."
    full = [list(range(i, i + batch)) for i in range(0, len(dataset) - batch + 1, batch)]
    return DataLoader(dataset, batch_sampler=full[start:], num_workers=workers, pin_memory=torch.cuda.is_available(), generator=torch.Generator())
class EvaluationViews(Dataset):
    "Whole images with their masks, only normalised."
    def __init__(self, folder: Folder, ids: list[str]): self.folder, self.ids = folder, ids
    def __len__(self): return len(self.ids)
    def __getitem__(self, i):
        id = self.ids[i]
        return {"image": normalise(read_image(self.folder.image_path(id))), "labels": to_labels(read_mask(self.folder.mask_path(id))), "id": id}
