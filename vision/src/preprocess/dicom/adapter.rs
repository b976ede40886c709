//! The JPEG and JPEG 2000 decoders of dicom-rs, run on one codestream at a time.

use std::borrow::Cow;

use dicom_core::value::C;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

use super::super::error::DecodeError;
use super::attributes::Attributes;
use super::{malformed, unsupported};

/// Runs the dicom-rs codec of `syntax` on one checked codestream.
pub(super) fn decode(
    codestream: Vec<u8>,
    attributes: &Attributes,
    bits_allocated: u32,
    syntax: &str,
) -> Result<Vec<u8>, DecodeError> {
    let registered = TransferSyntaxRegistry.get(syntax);
    let Some(reader) = registered.and_then(|syntax| syntax.pixel_data_reader()) else {
        return Err(unsupported(format!("no decoder for transfer syntax {syntax}")));
    };
    let object = OneFrame { codestream, attributes, bits_allocated, syntax };
    let mut samples = Vec::new();
    reader
        .decode_frame(&object, 0, &mut samples)
        .map_err(|e| malformed(format!("the codestream does not decode: {e}")))?;
    Ok(samples)
}

/// One codestream in the form that dicom-rs decoders take.
struct OneFrame<'a> {
    codestream: Vec<u8>,
    attributes: &'a Attributes,
    bits_allocated: u32,
    syntax: &'a str,
}

impl PixelDataObject for OneFrame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.syntax
    }
    // Rows and Columns were 16-bit numbers in the codestream that they were compared with.
    fn rows(&self) -> Option<u16> {
        u16::try_from(self.attributes.rows).ok()
    }
    fn cols(&self) -> Option<u16> {
        u16::try_from(self.attributes.columns).ok()
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        u16::try_from(self.attributes.samples).ok()
    }
    fn bits_allocated(&self) -> Option<u16> {
        u16::try_from(self.bits_allocated).ok()
    }
    fn bits_stored(&self) -> Option<u16> {
        self.bits_allocated()
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.attributes.photometric_name)
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(&self.codestream))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        None
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        let fragments = C::from_iter([self.codestream.clone()]);
        Some(RawPixelData { fragments, offset_table: C::new() })
    }
}
