"""Super-resolution of luminance."""

from axforge.axruntime.lazy import cv2, np
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.step import Decoder, Fit, Outputs, register
from axforge.axruntime.results.picture import Picture


@register
class SuperResolution(Decoder, frozen=True, tag="super_resolution"):
    """A larger RGB picture from a larger luminance in 0..1, its colour taken from the picture that was fed (bicubic)."""

    takes = "`[1, 1, H, W]` luminance"
    gives = Picture

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 4 or head.shape[1] != 1 or network.channels != 1 or not network.height or not network.width:
            return None
        times, rest = divmod(head.shape[2], network.height)
        if times < 2 or rest or head.shape[3] != network.width * times:
            return None
        return Fit((cls(),), "likely", f"one channel in, and one channel that is {times} times larger out")

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Picture:
        output = self.only(outputs)
        if output.ndim != 4 or output.shape[:2] != (1, 1):
            raise self.misfit(output.shape, "[1, 1, H, W]")
        luminance = output[0, 0].astype(np.float32, copy=False)
        height, width = luminance.shape
        chroma = cv2.cvtColor(np.ascontiguousarray(context.prepared.picture), cv2.COLOR_RGB2YCrCb)
        larger = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_CUBIC)
        larger[:, :, 0] = np.clip(np.rint(luminance * 255), 0, 255).astype(np.uint8)
        return Picture(cv2.cvtColor(larger, cv2.COLOR_YCrCb2RGB), luminance)
