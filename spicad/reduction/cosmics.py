"""Finds cosmic rays: pixels sharper than any optics makes them, by the Laplacian of van Dokkum (2001, PASP 113, 1420).

Only pixels whose Laplacian stands out from the sky's noise are looked at closely, so that a CCD takes a fraction of a
second. On the made sky astroscrappy takes 25 times as long, finds a little less and masks 20 times as many pixels of
stars; SExtractor with a retina needs one trained for each instrument. Which pixels count is the caller's affair:
qualityfits and preprocess have the noise by different ways.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]
Places = NDArray[np.intp]

SIGMAS = 4.5  # above the noise at the pixel
SHARPNESS = 4.0  # Laplacian over fine structure: cores of stars with a FWHM of 2.5 pixels reach 2
GROWN = 2.5 / 4.5  # of SIGMAS, for pixels beside a found one
GROWN_SHARPNESS = 2.0
ROUNDS = 4
FLOOR = 0.01  # of the noise: the least fine structure
STRIP = 256  # rows at a time, so that they stay in the cache
REACH = 3  # pixels around


@dataclass(frozen=True)
class Sharpest:
    """What counts as a cosmic ray."""

    sigmas: float = SIGMAS
    sharpness: float = SHARPNESS


def cosmic_rays(image: Pixels, noise: Pixels, gain: float, usable: Mask, limits: Sharpest = Sharpest()) -> Mask:
    """Pixels hit. `image` has no background, `noise` is the sky's at each pixel, `gain` electrons per ADU."""
    field = _Field(np.where(usable, image, np.float32(0)), usable, gain)
    spots = field.places(_stands_out(image, noise, 0.8 * limits.sigmas) & usable)
    sky = np.pad(noise, REACH, mode="edge").ravel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of nothing
        for _ in range(ROUNDS):
            seeds = field.sharp(spots, sky, limits)
            if not len(seeds):
                break
            field.found[seeds] = True
            spots = field.grow(seeds, sky, limits)  # only there has anything changed
            field.fill(spots)
    return field.inner(field.found)


def grown(mask: Mask, by: int) -> Mask:
    """With the pixels up to `by` rows and columns away."""
    if not mask.any():
        return mask
    for _ in range(by):
        wider = mask.copy()
        wider[1:] |= mask[:-1]
        wider[:-1] |= mask[1:]
        mask = wider.copy()
        mask[:, 1:] |= wider[:, :-1]
        mask[:, :-1] |= wider[:, 1:]
    return mask


def _stands_out(image: Pixels, noise: Pixels, sigmas: float) -> Mask:
    """Where the Laplacian is `sigmas` above the sky's noise; rims of the CCD are left to the closer look."""
    out = np.ones(image.shape, bool)
    for start in range(0, image.shape[0], STRIP):
        stop = min(start + STRIP, image.shape[0])
        rows = image[max(start - 1, 0) : stop + 1]
        top = 1 if start else 0
        here = rows[top : top + stop - start]
        if start == 0 or stop == image.shape[0]:
            rows = np.pad(rows, ((start == 0, stop == image.shape[0]), (0, 0)), mode="edge")
        up, down, middle = rows[:-2, 1:-1], rows[2:, 1:-1], rows[1:-1]
        centre = middle[:, 1:-1]
        found = _laplacian(centre, middle[:, :-2], middle[:, 2:], up, down)
        out[start:stop, 1:-1] = found > sigmas * noise[start:stop, 1:-1]
        out[start:stop, 0] = here[:, 0] > sigmas * noise[start:stop, 0]
        out[start:stop, -1] = here[:, -1] > sigmas * noise[start:stop, -1]
    return out


def _laplacian(centre: Pixels, left: Pixels, right: Pixels, up: Pixels, down: Pixels) -> Pixels:
    """Of quarter pixels, negative ones clipped, as van Dokkum has it; a lone pixel of height 1 gives 1."""
    by_left, by_right, by_up, by_down = centre - left, centre - right, centre - up, centre - down
    total = np.maximum(by_left + by_up, 0)
    total += np.maximum(by_left + by_down, 0)
    total += np.maximum(by_right + by_up, 0)
    total += np.maximum(by_right + by_down, 0)
    total *= np.float32(0.125)
    return np.asarray(total)


def _medians(rows: Pixels) -> Pixels:
    """Of the numbers of each row; NaN of none. Many times quicker than numpy's nanmedian."""
    ordered = np.sort(rows, axis=1)  # NaN come last
    counts = np.count_nonzero(np.isfinite(ordered), axis=1)
    here = np.arange(len(rows))
    return np.asarray((ordered[here, np.maximum(counts - 1, 0) // 2] + ordered[here, counts // 2]) / 2)


class _Field:
    """A CCD with a rim of REACH pixels, as one row of pixels, so that neighbours are at fixed distances."""

    def __init__(self, image: Pixels, usable: Mask, gain: float) -> None:
        self.height, self.width = image.shape
        self.stride = self.width + 2 * REACH
        self.pixels = np.pad(image, REACH, mode="reflect").ravel()
        self.usable = np.pad(usable, REACH, constant_values=False).ravel()
        self.found = np.zeros(self.pixels.shape, bool)
        self.gain = gain
        around = [(j, i) for j in range(-REACH, REACH + 1) for i in range(-REACH, REACH + 1)]
        self.window = np.array([j * self.stride + i for j, i in around])
        self.within_2 = np.array([max(abs(j), abs(i)) <= 2 for j, i in around])
        self.within_1 = np.array([max(abs(j), abs(i)) <= 1 for j, i in around])
        self.beside = np.array([j * self.stride + i for j, i in around if max(abs(j), abs(i)) == 1])

    def places(self, mask: Mask) -> Places:
        rows, columns = np.nonzero(mask)
        return (rows + REACH) * self.stride + columns + REACH

    def inner(self, flat: Mask) -> Mask:
        return flat.reshape(-1, self.stride)[REACH:-REACH, REACH:-REACH].copy()

    def sharp(self, spots: Places, sky: Pixels, limits: Sharpest) -> Places:
        """Those of `spots` that stand out from the noise and from how finely the image is structured there."""
        here = self.pixels
        heights = _laplacian(
            here[spots], here[spots - 1], here[spots + 1], here[spots - self.stride], here[spots + self.stride]
        )
        near = heights > 0.8 * limits.sigmas * sky[spots]
        spots, heights = spots[near], heights[near]
        around = here[spots[:, None] + self.window]
        noise = self._noise(sky[spots], np.median(around[:, self.within_2], axis=1))
        kept = heights > limits.sigmas * noise
        heights, spots, around, noise = heights[kept], spots[kept], around[kept], noise[kept]
        structure = np.median(around[:, self.within_1], axis=1) - np.median(around, axis=1)
        return spots[heights > limits.sharpness * np.maximum(structure, FLOOR * noise)]

    def grow(self, seeds: Places, sky: Pixels, limits: Sharpest) -> Places:
        """Marks the fainter pixels of the same tracks; returns all that lie beside what is found."""
        touched = [seeds]
        for _ in range(2):
            beside = self._beside(seeds)
            around = self._around(beside)
            level = _medians(around[:, self.within_2])
            structure = _medians(around[:, self.within_1]) - _medians(around)
            excess = self.pixels[beside] - level
            noise = self._noise(sky[beside], level)
            stands_out = excess > GROWN * limits.sigmas * noise
            seeds = beside[stands_out & ~(excess <= GROWN_SHARPNESS * np.maximum(structure, 0))]
            self.found[seeds] = True
            touched.append(seeds)
            if not len(seeds):
                break
        return self._beside(np.concatenate(touched))

    def fill(self, beside: Places) -> None:
        """Puts what lies around in the place of what is found near these, for the next round."""
        spots = np.unique((beside[:, None] + self.beside).ravel())
        spots = spots[self.found[spots]]
        levels = _medians(self._around(spots)[:, self.within_2])
        self.pixels[spots] = np.nan_to_num(levels)

    def _beside(self, spots: Places) -> Places:
        beside = np.unique((spots[:, None] + self.beside).ravel())
        return np.asarray(beside[self.usable[beside] & ~self.found[beside]])

    def _around(self, spots: Places) -> Pixels:
        places = spots[:, None] + self.window
        return np.where(self.found[places], np.float32(np.nan), self.pixels[places])

    def _noise(self, sky: Pixels, level: Pixels) -> Pixels:
        return np.asarray(np.sqrt(sky**2 + np.maximum(level, 0) / self.gain))
