"""A picture for people: three planes with the segments' outlines, as PNG and as a secondary capture.

The picture shows no face and no name: each plane is cut to the brain's box, and everything beyond a thin
rim around the brain is black. Without a brain mask no anatomy is drawn at all.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, io_orientation
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from serving.imaging.volume import Volume
from serving.results.answer import PRODUCT, WARNING, Answer
from serving.results.objects import ResultObject, ascii_text, finish
from serving.results.seg import equipment, series_description
from serving.results.source import Source

KIND = "preview"
SERIES_NUMBER = 8803
# The rim shows whether the mask follows the brain; skin and eyes lie farther out.
RIM_MM = 3.0
WIDTH, HEIGHT = 1020, 512
_PANEL, _TOP, _MARGIN = 332, 84, 6
_COLOURS = ((255, 92, 92), (64, 200, 255), (255, 214, 64), (170, 130, 255), (90, 230, 140))

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def draw(answer: Answer, volume: Volume, mask: Array, brain: Array, findings: Mapping[str, Any]) -> Array:
    """The picture as RGB uint8 [HEIGHT, WIDTH, 3].

    ``mask`` and ``brain`` are [I,J,K] on the grid of ``volume``. Planes are axial, coronal and sagittal in the
    radiological way (patient's right on the picture's left), through the largest part of the mask.
    """
    turn = io_orientation(volume.affine)
    grey, labels, inside = (
        np.ascontiguousarray(apply_orientation(array, turn))
        for array in (volume.voxels, mask, (brain > 0).astype(np.uint8))
    )
    spacing = np.array(volume.spacing)[np.argsort(turn[:, 0])]
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(picture)
    if inside.any():
        window = _Window(grey, labels, inside, spacing)
        for number, axis in enumerate((2, 1, 0)):
            panel = window.plane(axis)
            left = _MARGIN + number * (_PANEL + _MARGIN)
            picture.paste(panel, (left + (_PANEL - panel.width) // 2, _TOP + (_PANEL - panel.height) // 2))
            pen.text((left, _TOP + _PANEL + 2), _SIDES[axis], fill=(200, 200, 200), font=_font(14))
    else:
        pen.text(
            (_MARGIN, HEIGHT // 2), "No brain was found: no image is shown.", fill="white", font=_font(18)
        )
    _write(pen, answer, findings)
    return np.asarray(picture, dtype=np.uint8)


def png(picture: Array) -> bytes:
    """``picture`` [rows, columns, 3] as PNG without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def build(
    answer: Answer, volume: Volume, mask: Array, brain: Array, source: Source, findings: Mapping[str, Any]
) -> ResultObject:
    """The picture of ``draw`` as Secondary Capture, RGB 8 bit. Raises ObjectInvalid."""
    return capture(answer, draw(answer, volume, mask, brain, findings), source)


def capture(answer: Answer, picture: Array, source: Source) -> ResultObject:
    """``picture`` [rows, columns, 3] as Secondary Capture. Raises ObjectInvalid."""
    # The doorway: highdicom costs a second to import, so only the writing of results pays for it.
    from highdicom.sc import SCImage

    result = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # One picture holds three planes, so no single direction is right; type 2C lets it stand empty.
        patient_orientation=("L", "P"),
        study_instance_uid=str(source.original.StudyInstanceUID),
        series_instance_uid=answer.uid("preview.series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=answer.uid(KIND),
        instance_number=1,
        manufacturer=PRODUCT,
        series_description=series_description(answer, "PREVIEW"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[equipment(answer)],
    )
    result.PatientOrientation = None
    result.ConversionType = "WSD"
    result.BurnedInAnnotation = "YES"
    result.RecognizableVisualFeatures = "NO"
    result.DerivationDescription = ascii_text(f"{WARNING}; {answer.algorithm} {answer.digest}")
    result.LossyImageCompression = "00"
    # HEAD is no paired part, so Laterality (2C) is not asked for.
    result.BodyPartExamined = "HEAD"
    return finish(KIND, result, answer, source)


_SIDES = {2: "axial   R | L", 1: "coronal   R | L", 0: "sagittal   A | P"}


class _Window:
    """The grey image in RAS order, cut to the brain and turned into planes."""

    def __init__(self, grey: Floats, labels: Array, inside: Array, spacing: npt.NDArray[np.float64]) -> None:
        reach = np.maximum(1, np.ceil(RIM_MM / spacing)).astype(int)
        box = tuple(
            slice(max(0, side.start - int(rim)), side.stop + int(rim))
            for side, rim in zip(ndimage.find_objects(inside)[0], reach, strict=True)
        )
        self.labels, self.spacing = labels[box], spacing
        shown = ndimage.distance_transform_edt(inside[box] == 0, sampling=spacing) <= RIM_MM
        low, high = np.percentile(grey[box][inside[box] > 0], (1, 99.5))
        scaled = (grey[box] - low) / max(float(high - low), 1e-6)
        self.grey = np.where(shown, np.clip(scaled, 0, 1) * 255, 0).astype(np.uint8)
        # Beyond the rim nothing is drawn, not even a stray segment that would outline a face.
        self.labels = np.where(shown, self.labels, 0)

    def plane(self, axis: int) -> Image.Image:
        """One plane as a picture that fits a panel, superior or anterior upward, right on the left."""
        where = self.labels if self.labels.any() else (self.grey > 0).astype(np.uint8)
        others = tuple(other for other in range(3) if other != axis)
        index = int(np.argmax(np.count_nonzero(where, axis=others)))
        grey, labels = (np.take(array, index, axis=axis) for array in (self.grey, self.labels))
        # RAS: the first kept axis grows to the right of the patient's left; pictures grow down and rightward.
        grey, labels = (array.T[::-1, ::-1] for array in (grey, labels))
        across, down = (self.spacing[other] for other in others)
        scale = min(_PANEL / (grey.shape[1] * across), _PANEL / (grey.shape[0] * down))
        size = (max(1, int(grey.shape[1] * across * scale)), max(1, int(grey.shape[0] * down * scale)))
        shades = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
        marks = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        return Image.fromarray(_outlined(shades, marks))


def _outlined(shades: Array, marks: Array) -> Array:
    colour = np.repeat(shades[..., None], 3, axis=2)
    for number, value in enumerate(sorted(set(np.unique(marks).tolist()) - {0})):
        region = marks == value
        edge = region & ~ndimage.binary_erosion(region)
        colour[edge] = _COLOURS[number % len(_COLOURS)]
    return colour


def _write(pen: ImageDraw.ImageDraw, answer: Answer, findings: Mapping[str, Any]) -> None:
    pen.text((_MARGIN, 4), WARNING, fill=(255, 210, 90), font=_font(24))
    digest = answer.digest.removeprefix("sha256:")[:16]
    name = ascii_text(f"{PRODUCT} {answer.product_version}   {answer.algorithm}   digest {digest}", 120)
    pen.text((_MARGIN, 36), name, fill="white", font=_font(16))
    for number, finding in enumerate(findings["findings"][: len(_COLOURS)]):
        at = (_MARGIN, _TOP + _PANEL + 24 + number * 20)
        pen.text(at, sentence(finding), fill=_COLOURS[number], font=_font(16))


def sentence(finding: Mapping[str, Any]) -> str:
    """One finding in words, for example ``White matter lesion: 1.3 ml, 12 counted (lesions/1)``."""
    name = ascii_text(finding["name"], 40)
    if finding["volume_ml"] is None:
        return ascii_text(f"{name}: not reported. {finding['reason']}", 120)
    count = "" if finding["count"] is None else f", {finding['count']} counted ({finding['rule']})"
    return f"{name}: {finding['volume_ml']:.1f} ml{count}"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
