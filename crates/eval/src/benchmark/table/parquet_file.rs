//! Parquet: row by row, of the wanted columns only.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::ConvertedType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, List};
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
    let fields: Vec<_> =
        schema.get_fields().iter().filter(|field| is_wanted(field.name())).cloned().collect();
    if let Some(odd) = fields.iter().find(|field| !is_readable(field)) {
        let problem =
            format!("its column `{}` has a type that is neither text nor number", odd.name());
        return Err(malformed(&path, problem));
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()
        .map_err(|error| malformed(&path, cause(&error)))?;
    let mut rows = RowIter::from_file_into(Box::new(reader))
        .project(Some(projection))
        .map_err(|error| malformed(&path, cause(&error)))?;
    let mut number = 0;
    let next = move || {
        number += 1;
        let row = rows.next()?;
        let place = Place { path: path.to_path_buf(), unit: "row", number, field: None };
        Some(match row {
            Err(error) => Err(BenchmarkError::Row { place, problem: cause(&error) }),
            Ok(row) => {
                let fields: Map<String, Value> = row
                    .into_columns()
                    .into_iter()
                    .map(|(name, field)| (name, value(field)))
                    .collect();
                Ok(Row { path: path.clone(), unit: "row", number, fields })
            }
        })
    };
    Ok(Box::new(std::iter::from_fn(next)))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, BenchmarkError> {
    let file = File::open(path).map_err(unreadable(path))?;
    SerializedFileReader::new(file).map_err(|error| malformed(path, cause(&error)))
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

/// As the same field would stand in a line of JSON. What is not a number (`NaN`) is nothing, as pandas writes it.
fn value(field: Field) -> Value {
    let float = |value: f64| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
    match field {
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
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => Value::Object(Map::new()),
        },
        Field::ListInternal(list) => items(&list),
        Field::Group(row) => Value::Object(
            row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect(),
        ),
        other => other.to_string().into(),
    }
}

fn items(list: &List) -> Value {
    list.elements().iter().cloned().map(value).collect()
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
