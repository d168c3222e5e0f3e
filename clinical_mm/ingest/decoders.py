"""Which decoder reads which transfer syntax: one each, so that the same bytes give the same values everywhere.

Chosen by speed among those that gave the right values and refused truncated streams: pillow is the fastest for
8-bit JPEG and wrong for some JPEG 2000; pyjpegls reads 6- and 7-bit JPEG-LS, which GDCM does not. No second decoder
is tried after a failure: one that succeeds where another refused returns pixels that nobody should trust.
12-bit lossy JPEG, which pydicom's plugins leave out, is read here through GDCM.
"""

import gdcm
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, JPEGExtended12BitDecoder, get_decoder
from pydicom.uid import UID

_PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}
_NATIVE = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
}
_GDCM_12_BIT = "gdcm_12_bit"
_END_OF_IMAGE = b"\xff\xd9"
_TAIL_BYTES = 1024


def is_supported(syntax: UID) -> bool:
    """Whether frames of this transfer syntax can be decoded."""
    return syntax in _NATIVE or syntax in _PLUGINS or syntax == uid.JPEGExtended12Bit


def decoder_of(syntax: UID, bits_stored: int) -> tuple[Decoder, str]:
    """The decoder of a transfer syntax and the name of the plugin to use; empty for uncompressed ones."""
    decoder = get_decoder(syntax)
    if syntax in _NATIVE:
        return decoder, ""
    if syntax == uid.JPEGExtended12Bit:
        return decoder, "pillow" if bits_stored <= 8 else _GDCM_12_BIT
    return decoder, _PLUGINS[syntax]


def has_end_of_image(syntax: UID, stream: bytes) -> bool:
    """Whether a frame's JPEG, JPEG-LS or JPEG 2000 stream ends as such a stream must; RLE has no such mark.

    Decoders fill what is missing of a JPEG with grey and say nothing; the two bytes occur nowhere in coded data.
    """
    return syntax == uid.RLELossless or stream.rfind(_END_OF_IMAGE, -_TAIL_BYTES) >= 0


def is_available(syntax: str) -> bool:
    """Asked by pydicom of a module that brings a plugin: whether it decodes the transfer syntax."""
    return syntax == uid.JPEGExtended12Bit


def decode_12_bit_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """A frame of 12-bit lossy JPEG (process 4), as pydicom asks its plugins for it: 16 bits a sample, in C order."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    # GDCM hands a char* over as text.
    frame: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(frame) != 2 * runner.rows * runner.columns:
        raise RuntimeError("the 12-bit JPEG decoder returned another size than the header declares")
    runner.set_option("bits_allocated", 16)
    return frame


JPEGExtended12BitDecoder.add_plugin(_GDCM_12_BIT, (__name__, "decode_12_bit_frame"))
