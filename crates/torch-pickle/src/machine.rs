//! The interpreter of a pickle. It calls nothing: the few functions that `torch.save` names are values here, and what a
//! call of them makes is described, not made. Any other name ends the reading.
//!
//! Values are numbers and places in the pickle's own bytes, and what contains others is in one list and named by its
//! place in it. So nothing is copied, nothing nests, and every opcode takes a bounded amount of memory: neither a memo
//! that doubles itself nor a tuple in a tuple in a tuple costs more than its bytes.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};

use crate::element::Element;
use crate::opcodes;
use crate::view::View;
use base::visible;

/// Containers, storages and tensors of a file. The largest models have some 10,000 tensors.
const MAX_OBJECTS: usize = 1 << 20;
/// Values on the stack, and in the memo.
const MAX_VALUES: usize = 1 << 20;
/// Dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;
/// Bytes of a storage's name, which torch numbers, and characters of another name that are shown.
const MAX_NAME: usize = 100;

/// A place in the list of objects.
pub(crate) type ObjectId = usize;

/// A text: its bytes in the pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    start: usize,
    end: usize,
}

impl Text {
    fn length(self) -> usize {
        self.end - self.start
    }

    /// Whether it is this text. A pickle may recall a long one a million times: only equal lengths are compared.
    fn is(self, pickle: &[u8], expected: &str) -> bool {
        pickle.get(self.start..self.end) == Some(expected.as_bytes())
    }
}

/// A function or class that may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Element),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", name) => Element::of_storage(name).map(Self::Storage),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A floating-point number or bytes, which no tensor needs.
    Plain,
    Text(Text),
    Global(Global),
    Object(ObjectId),
}

#[derive(Debug)]
pub(crate) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict {
        entries: Vec<(Value, Value)>,
        /// An `OrderedDict`, which may have attributes.
        is_ordered: bool,
    },
    Storage {
        key: Text,
        element: Element,
        length: u64,
    },
    Tensor(Box<View>),
}

/// What a pickle has made.
pub(crate) struct Made<'a> {
    pickle: &'a [u8],
    objects: Vec<Object>,
    pub(crate) result: Value,
}

impl<'a> Made<'a> {
    pub(crate) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(id) => self.objects.get(id),
            _ => None,
        }
    }

    pub(crate) fn text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text(text) => text_of(self.pickle, text),
            _ => None,
        }
    }

    /// Whether a value is this text, in time that does not depend on the value.
    pub(crate) fn is_text(&self, value: Value, expected: &str) -> bool {
        matches!(value, Value::Text(text) if text.is(self.pickle, expected))
    }
}

fn text_of(pickle: &[u8], text: Text) -> Option<&str> {
    std::str::from_utf8(pickle.get(text.start..text.end)?).ok()
}

/// Reads a pickle.
///
/// # Errors
/// A name that is not allowed; an opcode that `torch.save` does not write; a pickle that is truncated, contradicts
/// itself or is beyond the limits.
pub(crate) fn run(pickle: &[u8]) -> anyhow::Result<Made<'_>> {
    let mut machine =
        Machine { pickle, place: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), objects: Vec::new() };
    loop {
        let start = machine.place;
        let is_done = machine.step().with_context(|| format!("its pickle cannot be read at byte {start}"))?;
        if is_done {
            let result = machine.pop()?;
            return Ok(Made { pickle, objects: machine.objects, result });
        }
    }
}

struct Machine<'a> {
    pickle: &'a [u8],
    place: usize,
    stack: Vec<Value>,
    /// Lengths of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    /// Performs one opcode; whether it was the last.
    fn step(&mut self) -> anyhow::Result<bool> {
        let opcode = self.byte()?;
        match opcode {
            // PROTO, FRAME: a frame only says how many bytes a reader may fetch at once.
            0x80 => {
                let protocol = self.byte()?;
                ensure!(protocol <= 5, "it is of the unknown protocol {protocol}");
            }
            0x95 => drop(self.bytes(8)?),
            b'.' => return Ok(true),
            b'(' => {
                ensure!(self.marks.len() < MAX_VALUES, "it has more than {MAX_VALUES} marks");
                self.marks.push(self.stack.len());
            }
            // POP, POP_MARK.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            // BININT, BININT1, BININT2, LONG1.
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => {
                let value = self.long()?;
                self.push(value)?;
            }
            // BINFLOAT.
            b'G' => {
                self.bytes(8)?;
                self.push(Value::Plain)?;
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8.
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            // BINBYTES, SHORT_BINBYTES, BINBYTES8.
            b'B' => self.binary(4)?,
            b'C' => self.binary(1)?,
            0x8e => self.binary(8)?,
            b')' => self.make(Object::Tuple(Vec::new()))?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.make(Object::Tuple(items))?;
            }
            b']' => self.make(Object::List(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'}' => self.make(Object::Dict { entries: Vec::new(), is_ordered: false })?,
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE.
            b'q' => {
                let key = self.byte()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            0x94 => self.remember(u32::try_from(self.memo.len())?)?,
            // BINGET, LONG_BINGET.
            b'h' => {
                let key = self.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            // GLOBAL, INST (which calls what it names at once), STACK_GLOBAL.
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = allowed(module, name)?;
                ensure!(opcode == b'c', "INST of {}.{} is not what torch.save writes", shown(module), shown(name));
                self.push(Value::Global(global))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    bail!("the name of a function is not a text");
                };
                let (module, name) = (text_of(self.pickle, module), text_of(self.pickle, name));
                let global = allowed(module.unwrap_or_default(), name.unwrap_or_default())?;
                self.push(Value::Global(global))?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let result = self.call(function, arguments)?;
                self.push(result)?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.make(storage)?;
            }
            other => match opcodes::name(other) {
                Some(name) => bail!("the opcode {name} is not what torch.save writes"),
                None => bail!("{other:#04x} is not an opcode: it is damaged"),
            },
        }
        Ok(false)
    }

    fn bytes(&mut self, count: u64) -> anyhow::Result<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.place.checked_add(count));
        let found = end.and_then(|end| self.pickle.get(self.place..end)).context("it is truncated")?;
        self.place += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.bytes(N as u64)?.try_into()?)
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A number of up to eight bytes.
    fn number(&mut self, bytes: u64) -> anyhow::Result<u64> {
        let found = self.bytes(bytes)?;
        Ok(found.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> anyhow::Result<&'a str> {
        let rest = self.pickle.get(self.place..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').context("it is truncated")?;
        let line = self.bytes(length as u64)?;
        self.place += 1;
        std::str::from_utf8(line).context("a name is not UTF-8 text")
    }

    /// A whole number in two's complement, the lowest byte first.
    fn long(&mut self) -> anyhow::Result<Value> {
        let length = self.byte()?;
        let bytes = self.bytes(length.into())?;
        // What does not fit cannot be the size of anything.
        if bytes.len() > 8 {
            return Ok(Value::Plain);
        }
        let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut whole = [if is_negative { 0xff } else { 0 }; 8];
        whole.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
        Ok(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, length_bytes: u64) -> anyhow::Result<()> {
        let length = self.number(length_bytes)?;
        let start = self.place;
        std::str::from_utf8(self.bytes(length)?).context("a text is not UTF-8")?;
        self.push(Value::Text(Text { start, end: self.place }))
    }

    fn binary(&mut self, length_bytes: u64) -> anyhow::Result<()> {
        let length = self.number(length_bytes)?;
        self.bytes(length)?;
        self.push(Value::Plain)
    }

    fn push(&mut self, value: Value) -> anyhow::Result<()> {
        ensure!(self.stack.len() < MAX_VALUES, "it has more than {MAX_VALUES} values on its stack");
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, object: Object) -> anyhow::Result<()> {
        let value = self.add(object)?;
        self.push(value)
    }

    fn add(&mut self, object: Object) -> anyhow::Result<Value> {
        ensure!(self.objects.len() < MAX_OBJECTS, "it makes more than {MAX_OBJECTS} objects");
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() - 1))
    }

    /// The uppermost value above the last mark.
    fn pop(&mut self) -> anyhow::Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > floor, "it takes a value from an empty stack");
        self.stack.pop().context("it takes a value from an empty stack")
    }

    fn pop_to_mark(&mut self) -> anyhow::Result<Vec<Value>> {
        let mark = self.marks.pop().context("it lacks a mark")?;
        ensure!(mark <= self.stack.len(), "it lacks a mark");
        Ok(self.stack.split_off(mark))
    }

    /// The object that the uppermost value names, which stays there.
    fn top(&mut self) -> anyhow::Result<&mut Object> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[Value]>::last).copied();
        match top {
            Some(Value::Object(id)) => self.objects.get_mut(id).context("it names an object that is not there"),
            _ => bail!("it puts something into what is no list and no dictionary"),
        }
    }

    fn tuple(&mut self, count: usize) -> anyhow::Result<()> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.make(Object::Tuple(items))
    }

    fn append(&mut self, items: Vec<Value>) -> anyhow::Result<()> {
        match self.top()? {
            Object::List(list) => list.extend(items),
            _ => bail!("it appends to what is not a list"),
        }
        Ok(())
    }

    /// Puts keys and values, one after the other, into a dictionary.
    fn set(&mut self, items: &[Value]) -> anyhow::Result<()> {
        let Object::Dict { entries, .. } = self.top()? else {
            bail!("it sets an item of what is not a dictionary");
        };
        let (pairs, rest) = items.as_chunks::<2>();
        ensure!(rest.is_empty(), "a key of a dictionary has no value");
        entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn remember(&mut self, key: u32) -> anyhow::Result<()> {
        let value = self.stack.last().copied().context("it remembers a value of an empty stack")?;
        ensure!(self.memo.len() < MAX_VALUES, "it remembers more than {MAX_VALUES} values");
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> anyhow::Result<()> {
        let value = self.memo.get(&key).copied();
        self.push(value.with_context(|| format!("it recalls the value {key}, which it does not remember"))?)
    }

    /// What a call of an allowed function makes.
    fn call(&mut self, function: Value, arguments: Value) -> anyhow::Result<Value> {
        let Value::Global(function) = function else {
            bail!("it calls what is not a function");
        };
        let arguments = self.items(arguments).context("the arguments of a call are not a tuple")?;
        match (function, arguments) {
            (Global::OrderedDict, []) => self.add(Object::Dict { entries: Vec::new(), is_ordered: true }),
            (Global::OrderedDict, _) => bail!("it makes a collections.OrderedDict of something"),
            // Storage, offset, shape, strides, requires_grad, hooks of the backward pass, and perhaps metadata.
            (Global::RebuildTensor, &[storage, offset, shape, strides, Value::Bool(_), hooks])
            | (Global::RebuildTensor, &[storage, offset, shape, strides, Value::Bool(_), hooks, Value::None]) => {
                self.check_hooks(hooks)?;
                let view = self.view(storage, offset, shape, strides)?;
                self.add(Object::Tensor(Box::new(view)))
            }
            (Global::RebuildTensor, _) => bail!("torch._utils._rebuild_tensor_v2 is called with other arguments"),
            // Tensor, requires_grad, hooks.
            (Global::RebuildParameter, &[tensor, Value::Bool(_), hooks]) => {
                self.check_hooks(hooks)?;
                let is_tensor = matches!(self.object(tensor), Some(Object::Tensor(_)));
                ensure!(is_tensor, "torch._utils._rebuild_parameter is called with what is not a tensor");
                Ok(tensor)
            }
            (Global::RebuildParameter, _) => bail!("torch._utils._rebuild_parameter is called with other arguments"),
            (Global::Storage(_), _) => bail!("it makes a storage that is not in the zip archive"),
        }
    }

    fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(id) => self.objects.get(id),
            _ => None,
        }
    }

    /// The items of a tuple.
    fn items(&self, value: Value) -> Option<&[Value]> {
        match self.object(value) {
            Some(Object::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    fn check_hooks(&self, hooks: Value) -> anyhow::Result<()> {
        let is_empty = match self.object(hooks) {
            Some(Object::Dict { entries, .. }) => entries.is_empty(),
            _ => hooks == Value::None,
        };
        ensure!(is_empty, "a tensor has hooks, which are functions");
        Ok(())
    }

    fn view(&self, storage: Value, offset: Value, shape: Value, strides: Value) -> anyhow::Result<View> {
        let Some(&Object::Storage { key, element, length }) = self.object(storage) else {
            bail!("a tensor has no storage");
        };
        let sizes = |value: Value, what: &str| -> anyhow::Result<Vec<u64>> {
            let items = self.items(value).with_context(|| format!("the {what} of a tensor is not a tuple"))?;
            ensure!(items.len() <= MAX_DIMENSIONS, "a tensor has {} dimensions", items.len());
            items.iter().map(|&item| whole(item, what)).collect()
        };
        let (shape, strides) = (sizes(shape, "shape")?, sizes(strides, "strides")?);
        ensure!(shape.len() == strides.len(), "a tensor has {} sizes and {} strides", shape.len(), strides.len());
        Ok(View {
            storage: text_of(self.pickle, key).context("the name of a storage is not text")?.to_owned(),
            element,
            length,
            offset: whole(offset, "offset")?,
            shape: shape.into_iter().map(usize::try_from).collect::<Result<_, _>>()?,
            strides,
        })
    }

    /// A storage by its persistent id: `("storage", class, key, device, number of elements)`.
    fn storage(&self, id: Value) -> anyhow::Result<Object> {
        let Some(&[Value::Text(kind), Value::Global(Global::Storage(element)), Value::Text(key), _, length]) =
            self.items(id)
        else {
            bail!("a persistent id is not that of a storage");
        };
        ensure!(kind.is(self.pickle, "storage"), "a persistent id is not that of a storage");
        // Every tensor of the storage has a copy of it.
        let length_of_key = key.length();
        ensure!(
            length_of_key <= MAX_NAME,
            "the name of a storage has {length_of_key} bytes, expected at most {MAX_NAME}"
        );
        Ok(Object::Storage { key, element, length: whole(length, "number of elements")? })
    }

    /// Sets attributes: only an `OrderedDict` may have some (`_metadata` of a state dict), and they are left out.
    fn build(&mut self) -> anyhow::Result<()> {
        let state = self.pop()?;
        let is_plain = matches!(self.object(state), Some(Object::Dict { .. }));
        match self.top()? {
            Object::Dict { is_ordered: true, .. } if is_plain => Ok(()),
            _ => bail!("it sets the state of what is not an OrderedDict"),
        }
    }
}

/// What a name stands for.
fn allowed(module: &str, name: &str) -> anyhow::Result<Global> {
    Global::named(module, name).with_context(|| {
        format!("it asks for {}.{}, which is not a part of a tensor and is not called", shown(module), shown(name))
    })
}

fn shown(name: &str) -> String {
    visible::cut(name, MAX_NAME)
}

fn whole(value: Value, what: &str) -> anyhow::Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).with_context(|| format!("the {what} of a tensor is below 0")),
        _ => bail!("the {what} of a tensor is not a whole number"),
    }
}
