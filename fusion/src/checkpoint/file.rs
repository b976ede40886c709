//! One safetensors file, mapped into memory; its header is checked against the file before use.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, SafeTensorError},
};

use crate::{Error, Result};

/// A mapped file and its checked header.
#[derive(Debug)]
pub(crate) struct WeightFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// A tensor inside a [`WeightFile`].
pub(crate) struct View<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a [u8],
}

impl WeightFile {
    /// Maps the file and checks that its header describes exactly the bytes that follow it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        // SAFETY: the map is read-only and private to this process. Another process that truncates the file
        // while it is mapped would fault; model directories are replaced by rename (see `save`), never in place.
        #[allow(unsafe_code, reason = "memory map of a weight file: the one exception outside the kernels")]
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| damaged(path, &map, &error))?;
        let data_start = header + size_of::<u64>();
        Ok(Self { path: path.to_owned(), map, metadata, data_start })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Tensor names in the order of their data.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(crate) fn view(&self, name: &str) -> Option<View<'_>> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        let bytes = self.map.get(self.data_start + start..self.data_start + end)?;
        Some(View { dtype: info.dtype, shape: &info.shape, bytes })
    }
}

/// What is wrong with a file that safetensors refuses, with the numbers that show it.
fn damaged(path: &Path, bytes: &[u8], error: &SafeTensorError) -> Error {
    let size = bytes.len();
    let header = bytes.first_chunk::<8>().map(|first| u64::from_le_bytes(*first));
    let message = match (error, header) {
        (SafeTensorError::HeaderTooSmall, _) | (_, None) => {
            format!("not a safetensors file: {size} bytes, expected a header of at least 8")
        }
        (SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength, Some(header)) => {
            format!(
                "not a safetensors file, or truncated: its header claims {header} bytes, the file has {size}"
            )
        }
        (SafeTensorError::MetadataIncompleteBuffer, Some(_)) => {
            format!(
                "truncated or damaged: the tensors in its header do not end where the file ends ({size} bytes)"
            )
        }
        (SafeTensorError::InvalidOffset(name), _) => {
            format!("damaged header: the offsets of tensor `{name}` do not follow the tensor before it")
        }
        (SafeTensorError::TensorInvalidInfo, _) => {
            "damaged header: the byte range of a tensor does not match its shape and type".to_owned()
        }
        (other, _) => format!("damaged safetensors header: {other}"),
    };
    Error::file(path, message)
}
