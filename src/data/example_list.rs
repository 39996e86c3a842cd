//! The examples of a split in little memory: tokens one after the other, and nothing for what most examples lack. They may
//! lie in files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bytemuck::Pod;

use crate::data::batch::Example;
use base::column::{Column, ColumnFile, ColumnWriter};
use base::lists::Lists;

/// Examples in their order; each is made when a batch needs it.
#[derive(Clone, Debug, Default)]
pub struct ExampleList {
    images: Column<u32>,
    tokens: Tokens,
    /// Examples after the last that has a prompt are left out.
    prompt_lengths: Column<u32>,
    /// Examples after the last that has another weight than 1 are left out.
    weights: Column<f64>,
}

/// Tokens of each example.
#[derive(Clone, Debug)]
enum Tokens {
    /// As long as no id needs more bits: the vocabularies of GPT-2 and BERT have fewer than 2^16 tokens.
    Narrow(Lists<u16>),
    Wide(Lists<u32>),
}

impl Default for Tokens {
    fn default() -> Self {
        Self::Narrow(Lists::default())
    }
}

impl ExampleList {
    /// Appends an example. Its image has an index below 2^32.
    pub fn push(&mut self, example: &Example) {
        let Example { image, tokens, prompt_length, weight } = example;
        let place = self.len();
        self.images.to_mut().push(u32::try_from(*image).expect("a data set has fewer than 2^32 images"));
        self.tokens.push(tokens);
        if *prompt_length > 0 {
            let lengths = self.prompt_lengths.to_mut();
            lengths.resize(place, 0);
            lengths.push(u32::try_from(*prompt_length).expect("a prompt has fewer than 2^32 tokens"));
        }
        if *weight != 1.0 {
            let weights = self.weights.to_mut();
            weights.resize(place, 1.0);
            weights.push(*weight);
        }
    }

    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The example of this number; panics where there is none.
    pub fn get(&self, number: usize) -> Example {
        Example {
            image: self.image(number),
            tokens: self.tokens.get(number),
            prompt_length: self.prompt_lengths.get(number).map_or(0, |&length| length as usize),
            weight: self.weights.get(number).copied().unwrap_or(1.0),
        }
    }

    /// The image of an example, as index in the data set.
    pub fn image(&self, number: usize) -> usize {
        self.images[number] as usize
    }

    /// Tokens of an example.
    pub fn num_tokens(&self, number: usize) -> usize {
        match &self.tokens {
            Tokens::Narrow(lists) => lists.get(number).len(),
            Tokens::Wide(lists) => lists.get(number).len(),
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Example> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// Bytes that the examples take on the heap.
    pub fn heap_bytes(&self) -> usize {
        let of_tokens = match &self.tokens {
            Tokens::Narrow(lists) => lists.heap_bytes(),
            Tokens::Wide(lists) => lists.heap_bytes(),
        };
        of_tokens + self.images.heap_bytes() + self.prompt_lengths.heap_bytes() + self.weights.heap_bytes()
    }

    /// Writes them into files of `folder`.
    pub fn write(&self, folder: &Path) -> io::Result<WrittenExamples> {
        let mut files = WrittenExamples::new();
        let mut write = |name: &str, fill: &dyn Fn(&mut ColumnWriter) -> io::Result<()>| {
            let mut writer = ColumnWriter::create(&file(folder, name))?;
            fill(&mut writer)?;
            files.insert(name.to_owned(), writer.finish()?);
            io::Result::Ok(())
        };
        write(IMAGES, &|writer| writer.write(&self.images))?;
        write(PROMPT_LENGTHS, &|writer| writer.write(&self.prompt_lengths))?;
        write(WEIGHTS, &|writer| writer.write(&self.weights))?;
        match &self.tokens {
            Tokens::Narrow(lists) => {
                write(NARROW, &|writer| write_content(writer, lists))?;
                write(ENDS, &|writer| write_ends(writer, lists))?;
            }
            Tokens::Wide(lists) => {
                write(WIDE, &|writer| write_content(writer, lists))?;
                write(ENDS, &|writer| write_ends(writer, lists))?;
            }
        }
        Ok(files)
    }

    /// What [`Self::write`] wrote, mapped into memory. All files are read once, to check them.
    ///
    /// # Errors
    /// Files that are not what was written.
    pub fn open(folder: &Path, files: &WrittenExamples) -> Result<Self> {
        let tokens = match files.contains_key(WIDE) {
            false => Tokens::Narrow(Lists::in_files(column(folder, files, NARROW)?, column(folder, files, ENDS)?)?),
            true => Tokens::Wide(Lists::in_files(column(folder, files, WIDE)?, column(folder, files, ENDS)?)?),
        };
        let images: Column<u32> = column(folder, files, IMAGES)?;
        ensure!(images.len() == tokens.len(), "there are {} examples of {} images", tokens.len(), images.len());
        let prompt_lengths = column(folder, files, PROMPT_LENGTHS)?;
        Ok(Self { images, tokens, prompt_lengths, weights: column(folder, files, WEIGHTS)? })
    }
}

/// The files of examples, by the names of their columns.
pub type WrittenExamples = BTreeMap<String, ColumnFile>;

const IMAGES: &str = "images";
const PROMPT_LENGTHS: &str = "prompt_lengths";
const WEIGHTS: &str = "weights";
/// Tokens of 16 bits, or of 32.
const NARROW: &str = "tokens_16";
const WIDE: &str = "tokens_32";
const ENDS: &str = "token_ends";

fn file(folder: &Path, column: &str) -> PathBuf {
    folder.join(format!("{column}.bin"))
}

fn column<T: Pod>(folder: &Path, files: &WrittenExamples, name: &str) -> Result<Column<T>> {
    let expected = *files.get(name).with_context(|| format!("the column {name} is missing"))?;
    let path = file(folder, name);
    Column::open(&path, expected, true).with_context(|| format!("cannot use {}", path.display()))
}

fn write_content<T: Pod>(writer: &mut ColumnWriter, lists: &Lists<T>) -> io::Result<()> {
    lists.iter().try_for_each(|list| writer.write(list))
}

fn write_ends<T: Pod>(writer: &mut ColumnWriter, lists: &Lists<T>) -> io::Result<()> {
    let mut end = 0;
    lists.iter().try_for_each(|list| {
        end += list.len() as u64;
        writer.write(&[end])
    })
}

impl Extend<Example> for ExampleList {
    fn extend<I: IntoIterator<Item = Example>>(&mut self, examples: I) {
        examples.into_iter().for_each(|example| self.push(&example));
    }
}

impl FromIterator<Example> for ExampleList {
    fn from_iter<I: IntoIterator<Item = Example>>(examples: I) -> Self {
        let mut list = Self::default();
        list.extend(examples);
        list
    }
}

impl Tokens {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(lists) => lists.len(),
            Self::Wide(lists) => lists.len(),
        }
    }

    fn push(&mut self, tokens: &[u32]) {
        if let Self::Narrow(lists) = self {
            let narrow: Result<Vec<u16>, _> = tokens.iter().map(|&token| u16::try_from(token)).collect();
            match narrow {
                Ok(tokens) => return lists.push(&tokens),
                Err(_) => {
                    let mut wide = Lists::default();
                    lists.iter().for_each(|tokens| wide.push(&widened(tokens)));
                    *self = Self::Wide(wide);
                }
            }
        }
        if let Self::Wide(lists) = self {
            lists.push(tokens);
        }
    }

    fn get(&self, number: usize) -> Vec<u32> {
        match self {
            Self::Narrow(lists) => widened(lists.get(number)),
            Self::Wide(lists) => lists.get(number).to_vec(),
        }
    }
}

fn widened(tokens: &[u16]) -> Vec<u32> {
    tokens.iter().map(|&token| token.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(number: usize) -> Example {
        let tokens = (0..13).map(|place| (number * 7 + place) as u32 % 5000).collect();
        Example { image: number / 2, tokens, prompt_length: 0, weight: 1.0 }
    }

    #[test]
    fn examples_come_back_as_they_were_pushed() {
        let mut examples: Vec<Example> = (0..3000).map(example).collect();
        examples[7].prompt_length = 3;
        examples[2500].prompt_length = 5;
        examples[1200].weight = 0.25;
        let list: ExampleList = examples.iter().cloned().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), examples);
        assert_eq!((list.len(), list.image(9), list.num_tokens(9)), (3000, 4, 13));
        // The ids of a large vocabulary, from the middle on.
        examples[1500].tokens = vec![1, 70_000, u32::MAX, 2];
        examples[1501].tokens = vec![1, 65_535, 2];
        let list: ExampleList = examples.iter().cloned().collect();
        assert!(matches!(list.tokens, Tokens::Wide(_)));
        assert_eq!(list.iter().collect::<Vec<_>>(), examples);
        assert_eq!(list.num_tokens(1500), 4);
    }

    #[test]
    fn ten_thousand_examples_of_thirteen_tokens_take_at_most_forty_five_bytes_each() {
        let list: ExampleList = (0..10_000).map(example).collect();
        let each = list.heap_bytes() as f64 / 10_000.0;
        assert!((34.0..45.0).contains(&each), "{each}");
    }
}
