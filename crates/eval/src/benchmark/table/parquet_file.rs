//! Parquet: row by row, of the wanted columns only.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::ConvertedType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::{Rows, unreadable};
use crate::benchmark::error::{BenchmarkError, Place};
use crate::benchmark::row::Row;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    let reader = open(path)?;
    let schema = reader.metadata().file_metadata().schema();
    Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
}

pub(super) fn rows(path: Arc<Path>, wanted: &[String]) -> Result<Rows, BenchmarkError> {
    let reader = open(&path)?;
    let schema = reader.metadata().file_metadata().schema();
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let projected: Vec<_> =
        schema.get_fields().iter().filter(|field| is_wanted(field.name())).cloned().collect();
    if let Some(odd) = projected.iter().find(|field| !is_readable(field)) {
        let problem =
            format!("its column `{}` has a type that is neither text nor number", odd.name());
        return Err(malformed(&path, problem));
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(projected)
        .build()
        .map_err(|error| malformed(&path, cause(&error)))?;
    let mut rows =
        contained(|| RowIter::from_file_into(Box::new(reader)).project(Some(projection)))
            .map_err(|error| malformed(&path, cause(&error)))?;
    let mut number = 0;
    let next = move || {
        number += 1;
        let row = contained(|| rows.next().transpose()).transpose()?;
        let place = Place { path: path.to_path_buf(), unit: "row", number, field: None };
        Some(
            match row {
                Err(error) => Err(BenchmarkError::Row { place, problem: cause(&error) }),
                Ok(row) => fields(row).map_err(|field| {
                    let place = Place { field: Some(field), ..place };
                    BenchmarkError::Row { place, problem: "is not UTF-8".to_owned() }
                }),
            }
            .map(|fields| Row { path: path.clone(), unit: "row", number, fields }),
        )
    };
    Ok(Box::new(std::iter::from_fn(next)))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, BenchmarkError> {
    let file = File::open(path).map_err(unreadable(path))?;
    contained(|| SerializedFileReader::new(file)).map_err(|error| malformed(path, cause(&error)))
}

/// The reader panics at some damaged files (a negative length, say), where it should refuse them: here it does. What it was
/// in the middle of is not used again: whoever reads stops at the first error.
fn contained<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(ParquetError::General(said.unwrap_or_else(|| "it is damaged".to_owned())))
    })
}

/// The record reader ends the process at types that it does not know, so they are looked at first.
fn is_readable(field: &Type) -> bool {
    if field.is_group() {
        return field.get_fields().iter().all(|inner| is_readable(inner));
    }
    use ConvertedType as C;
    matches!(
        field.get_basic_info().converted_type(),
        C::NONE
            | C::UTF8
            | C::ENUM
            | C::JSON
            | C::INT_8
            | C::INT_16
            | C::INT_32
            | C::INT_64
            | C::UINT_8
            | C::UINT_16
            | C::UINT_32
            | C::UINT_64
    )
}

/// Or the name of the field that is not UTF-8.
fn fields(row: parquet::record::Row) -> Result<Map<String, Value>, String> {
    let field = |(name, field)| match value(field) {
        Some(value) => Ok((name, value)),
        None => Err(name),
    };
    row.into_columns().into_iter().map(field).collect()
}

/// As the same field would stand in a line of JSON; `None` for bytes that are no text. What is not a number (`NaN`) is
/// nothing, as pandas writes it.
fn value(field: Field) -> Option<Value> {
    let float = |value: f64| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
    Some(match field {
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
        Field::Float(value) => float(value.into()),
        Field::Double(value) => float(value),
        Field::Str(text) => text.into(),
        // Text that its writer did not mark as such.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok()?.into(),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(value).collect::<Option<_>>()?)
        }
        Field::Group(row) => Value::Object(fields(row).ok()?),
        other => other.to_string().into(),
    })
}

fn malformed(path: &Path, problem: String) -> BenchmarkError {
    BenchmarkError::Malformed { path: path.to_owned(), format: "Parquet", problem }
}

/// On one line, and not longer: some messages hold the bytes that could not be read.
fn cause(error: &ParquetError) -> String {
    const LONGEST: usize = 200;
    let text = error.to_string().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
