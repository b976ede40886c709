//! Parquet: the fields of the JSON lines as columns. Pictures may be paths, or bytes inside the file (a binary column, or
//! `{bytes, path}` as Hugging Face writes them), which are read one at a time when they are wanted.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, Type as Physical};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::collect::Collector;
use super::json::Checked;
use super::layout::Source;
use super::lines::{IMAGES, Shape};
use super::{Task, read_file, unreadable};
use crate::error::{Error, Result};

fn fail(file: &Path, message: impl Into<String>) -> Error {
    Error::Data { origin: file.display().to_string(), message: message.into() }
}

/// Runs `read` on a file of which nothing is known to be sound: the reader of the format gives up on some damage by a
/// panic.
fn guarded<T>(file: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(fail(file, "damaged Parquet file")))
}

fn reader(file: &Path) -> Result<SerializedFileReader<File>> {
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    SerializedFileReader::new(opened).map_err(|error| fail(file, error.to_string()))
}

pub(super) fn read(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let mut shape = Shape::new(collector.split(), &source.root);
    for file in &source.files {
        collector.digest(file)?;
        guarded(file, || rows(file, &source.root, &mut shape, collector))?;
    }
    Ok(shape.task())
}

fn rows(file: &Path, root: &Path, shape: &mut Shape<'_>, collector: &mut Collector<'_>) -> Result<()> {
    let reader = reader(file)?;
    let schema = reader.metadata().file_metadata().schema();
    let embedded =
        schema.get_fields().iter().find(|field| IMAGES.contains(&field.name()) && is_embedded(field));
    let embedded = embedded.map(|field| field.name().to_owned());
    let projection = embedded.as_deref().map(|name| without(schema, name));
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let iterator = RowIter::from_file(projection.transpose().map_err(|error| fail(file, error))?, &reader);
    for (number, row) in iterator.map_err(|error| fail(file, error.to_string()))?.enumerate() {
        if collector.is_full() {
            break;
        }
        let row = row.map_err(|error| fail(file, format!("row {number}: {error}")))?;
        let found = object(row).and_then(|mut record| {
            if let Some(name) = &embedded {
                let inside = file.strip_prefix(root).unwrap_or(file).join(number.to_string()).join(name);
                record.insert(name.clone(), Value::String(inside.to_string_lossy().into_owned()));
            }
            shape.item(record, || format!("{stem}-{number}"))
        });
        collector.take(file, &format_args!("row {number}"), found)?;
    }
    Ok(())
}

fn is_embedded(field: &Type) -> bool {
    if field.is_primitive() {
        let text = field.get_basic_info().converted_type() != ConvertedType::NONE;
        return field.get_physical_type() == Physical::BYTE_ARRAY && !text;
    }
    field.get_fields().iter().any(|inner| inner.name() == "bytes" && inner.is_primitive())
}

/// The schema without the bytes of the pictures; a column of nothing else falls away.
fn without(schema: &Type, image: &str) -> Checked<Type> {
    let kept = schema.get_fields().iter().filter(|field| field.name() != image).cloned().collect();
    Type::group_type_builder(schema.name()).with_fields(kept).build().map_err(|error| error.to_string())
}

fn object(row: Row) -> Checked<Map<String, Value>> {
    row.into_columns().into_iter().map(|(name, field)| Ok((name.clone(), value(&name, field)?))).collect()
}

fn value(name: &str, field: Field) -> Checked<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => f64::from(value).into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => return Err(format!("column `{name}`: found bytes, expected text")),
        },
        Field::Group(row) => object(row)?.into(),
        Field::ListInternal(list) => {
            let values = list.elements().iter().map(|field| value(name, field.clone()));
            Value::Array(values.collect::<Checked<_>>()?)
        }
        other => other.to_string().into(),
    })
}

/// A picture inside a Parquet file.
pub(super) struct Inside {
    file: PathBuf,
    row: usize,
    column: String,
}

/// Reads `FILE.parquet/ROW/COLUMN`; `None` for any other path.
pub(super) fn inside(path: &Path) -> Option<Inside> {
    let column = path.file_name()?.to_str()?.to_owned();
    let above = path.parent()?;
    let row = above.file_name()?.to_str()?.parse().ok()?;
    let file = above.parent()?;
    (file.extension()? == "parquet" && file.is_file()).then(|| Inside { file: file.to_owned(), row, column })
}

/// The bytes of the picture, or of the file beside that its `path` names.
pub(super) fn image(place: &Inside) -> Result<Vec<u8>> {
    let Inside { file, row, column } = place;
    guarded(file, || {
        let reader = reader(file)?;
        let cell = |names: [&str; 2]| {
            cell(&reader, *row, &names).map_err(|message| fail(file, format!("row {row}: {message}")))
        };
        if let Some(bytes) = cell([column, "bytes"])? {
            return Ok(bytes);
        }
        let path = cell([column, "path"])?.and_then(|path| String::from_utf8(path).ok());
        let Some(path) = path else {
            return Err(fail(file, format!("row {row}: column `{column}` has no picture")));
        };
        read_file(&file.parent().unwrap_or(Path::new("")).join(path))
    })
}

/// One value of a column of byte arrays, `names` or its first part alone; `None` when it is null or there is no such
/// column. Pages before the row are passed over.
fn cell(reader: &SerializedFileReader<File>, row: usize, names: &[&str]) -> Checked<Option<Vec<u8>>> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let fits = |parts: &[String]| parts == names || (parts.len() == 1 && parts[0] == names[0]);
    let Some(column) = schema.columns().iter().position(|column| fits(column.path().parts())) else {
        return Ok(None);
    };
    let mut left = row;
    for group in 0..reader.num_row_groups() {
        let rows = usize::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or_default();
        if left >= rows {
            left -= rows;
            continue;
        }
        let reader = reader.get_row_group(group).and_then(|group| group.get_column_reader(column));
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader.map_err(|error| error.to_string())?
        else {
            return Err(format!("column `{}` does not hold bytes", names.join(".")));
        };
        let mut values: Vec<ByteArray> = Vec::new();
        let read = reader
            .skip_records(left)
            .and_then(|_| reader.read_records(1, Some(&mut Vec::new()), Some(&mut Vec::new()), &mut values));
        read.map_err(|error| error.to_string())?;
        return Ok(values.first().map(|bytes| bytes.data().to_vec()));
    }
    Err("there is no such row".into())
}
