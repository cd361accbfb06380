//! An artifact lists the branches that close its loops, and no others.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Artifact, BackEdge, Compiler, Features, MAX_BACK_EDGES, Target, Verify};
use dagwood_il::{
    Block, Builder, Folding, Frequency, Handler, KindSet, Local, Module, Node, Opcode, Payload, Type,
};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// How often a loop in so many loops runs, where nobody knows better.
fn estimate(depth: u32) -> u32 {
    1024 * 8u32.pow(depth)
}

/// A method with a parameter for each type.
fn compile(types: &[Type], fill: impl FnOnce(&mut Builder<'_, '_>)) -> Artifact {
    let mut module = Module::new();
    let id = module.declare_method("m", types, &[]);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    fill(&mut b);
    let method = b.finish().unwrap();
    let target = Arc::new(Target::new(Features::Host, Verify::On).unwrap());
    let artifact = Compiler::new(target.clone()).compile(&module, &method).unwrap();
    assert_eq!(Compiler::new(target).compile(&module, &method).unwrap(), artifact);
    check(&artifact);
    artifact
}

fn instructions(artifact: &Artifact, start: u32, end: u32) -> Vec<Instruction> {
    let code = &artifact.code[start as usize..end as usize];
    Decoder::with_ip(64, code, start.into(), DecoderOptions::NONE).into_iter().collect()
}

/// Checks what holds of every artifact.
fn check(artifact: &Artifact) {
    for edge in &artifact.back_edges {
        let all = instructions(artifact, edge.start, edge.end);
        let (branch, before) = all.split_last().unwrap();
        assert!(before.len() <= 1 && !all.iter().any(Instruction::is_invalid));
        assert!(branch.near_branch_target() <= branch.ip());
        assert!(branch.is_jcc_short_or_near() || before.is_empty() && branch.is_jmp_short_or_near());
    }
    let order = |edge: &BackEdge| (std::cmp::Reverse(edge.frequency), edge.start);
    assert!(artifact.back_edges.is_sorted_by_key(order) && artifact.back_edges.len() <= MAX_BACK_EDGES);
}

fn frequencies(artifact: &Artifact) -> Vec<u32> {
    artifact.back_edges.iter().map(|edge| edge.frequency).collect()
}

/// The first instructions of the edges.
fn starts(artifact: &Artifact) -> Vec<Mnemonic> {
    let edges = artifact.back_edges.iter();
    edges.map(|edge| instructions(artifact, edge.start, edge.end)[0].mnemonic()).collect()
}

/// A loop that counts from 0 until `local` is as large as `limit`: emits its body by `fill`, and continues behind it.
fn until(
    b: &mut Builder<'_, '_>,
    local: Local,
    limit: Local,
    fill: impl FnOnce(&mut Builder<'_, '_>),
) -> Block {
    let (body, end) = (b.block(), b.block());
    let zero = b.i32(0);
    b.set(local, zero);
    b.goto(body);
    b.switch_to(body);
    fill(b);
    let (x, one, limit) = (b.get(local), b.i32(1), b.get(limit));
    let next = b.op(Opcode::Add, &[x, one]);
    b.set(local, next);
    let again = b.op(Opcode::SLt, &[next, limit]);
    b.branch(again, body, end);
    b.switch_to(end);
    body
}

#[test]
fn loops_are_the_hotter_the_deeper_they_are() {
    let artifact = compile(&[Type::I32; 4], |b| {
        let [x, y, z, limit] = [0, 1, 2, 3].map(|index| b.param(index));
        until(b, x, limit, |b| {
            until(b, y, limit, |b| {
                until(b, z, limit, |_| {});
            });
            until(b, z, limit, |_| {});
        });
        until(b, x, limit, |_| {});
        b.ret(&[]);
    });
    assert_eq!(frequencies(&artifact), [3, 2, 2, 1, 1].map(estimate));
    assert_eq!(starts(&artifact), [Mnemonic::Cmp; 5], "the compare belongs to the branch");
    assert!(
        artifact
            .back_edges
            .iter()
            .all(|edge| edge.end - edge.start == 6 + 3 || edge.end - edge.start == 6 + 2)
    );
}

#[test]
fn a_method_without_loops_has_no_back_edges() {
    let artifact = compile(&[Type::I32; 2], |b| {
        let x = b.param(0);
        for _ in 0..4 {
            let (then, otherwise, next) = (b.block(), b.block(), b.block());
            let value = b.get(x);
            b.branch(value, then, otherwise);
            b.switch_to(then);
            let value = b.get(x);
            let negated = b.op(Opcode::Not, &[value]);
            b.set(x, negated);
            b.goto(next);
            b.switch_to(otherwise);
            b.goto(next);
            b.switch_to(next);
        }
        b.ret(&[]);
    });
    assert_eq!(artifact.back_edges, []);
}

#[test]
fn branches_forward_in_a_loop_are_no_back_edges() {
    let artifact = compile(&[Type::I32; 3], |b| {
        let [x, y, limit] = [0, 1, 2].map(|index| b.param(index));
        until(b, x, limit, |b| {
            let (then, next) = (b.block(), b.block());
            let value = b.get(y);
            b.branch(value, then, next);
            b.switch_to(then);
            let value = b.get(y);
            let negated = b.op(Opcode::Not, &[value]);
            b.set(y, negated);
            b.goto(next);
            b.switch_to(next);
        });
        b.ret(&[]);
    });
    assert_eq!(frequencies(&artifact), [estimate(1)]);
}

#[test]
fn a_jump_may_close_a_loop() {
    let artifact = compile(&[Type::I32; 2], |b| {
        let [x, y] = [0, 1].map(|index| b.param(index));
        let (head, body, end) = (b.block(), b.block(), b.block());
        b.goto(head);
        b.switch_to(head);
        let value = b.get(x);
        b.branch(value, body, end);
        b.switch_to(body);
        let (value, sum) = (b.get(x), b.get(y));
        let sum = b.op(Opcode::Add, &[sum, value]);
        b.set(y, sum);
        let half = b.op(Opcode::And, &[value, sum]);
        b.set(x, half);
        b.goto(head);
        b.switch_to(end);
        b.ret(&[]);
    });
    assert_eq!(frequencies(&artifact), [estimate(1)]);
    assert_eq!(starts(&artifact), [Mnemonic::Jmp]);
}

#[test]
fn frequencies_of_blocks_are_believed() {
    let artifact = compile(&[Type::I32; 3], |b| {
        let [x, y, limit] = [0, 1, 2].map(|index| b.param(index));
        let outer = until(b, x, limit, |b| {
            let inner = until(b, y, limit, |_| {});
            b.set_frequency(inner, Frequency(7_000));
        });
        // Of the block at the loop's start; its end is the one that branches, and has none.
        b.set_frequency(outer, Frequency(9_000));
        b.ret(&[]);
    });
    assert_eq!(frequencies(&artifact), [estimate(1), 7_000]);
}

#[test]
fn floats_are_compared_by_an_instruction_of_its_own() {
    let artifact = compile(&[Type::F64; 2], |b| {
        let [x, y] = [0, 1].map(|index| b.param(index));
        let (body, end) = (b.block(), b.block());
        b.goto(body);
        b.switch_to(body);
        let (value, step) = (b.get(x), b.get(y));
        let next = b.op(Opcode::FAdd, &[value, step]);
        b.set(x, next);
        let again = b.op(Opcode::FLt, &[next, step]);
        b.branch(again, body, end);
        b.switch_to(end);
        b.ret(&[]);
    });
    let [edge] = artifact.back_edges[..] else { panic!("{:?}", artifact.back_edges) };
    assert_eq!(edge.end - edge.start, 6);
}

/// A loop whose body is `fill`, in a block with a handler that goes back to it.
fn retried(fill: impl FnOnce(&mut Builder<'_, '_>, Node)) -> Artifact {
    compile(&[Type::I32; 2], |b| {
        let [x, limit] = [0, 1].map(|index| b.param(index));
        until(b, x, limit, |b| {
            let (body, retry) = (b.block(), b.block());
            b.goto(body);
            b.switch_to(retry);
            b.goto(body);
            let list = b.handlers(&[Handler { kinds: KindSet::CATCHABLE, class: None, block: retry }]);
            b.set_handlers(body, Some(list));
            b.switch_to(body);
            let value = b.get(x);
            fill(b, value);
            let next = b.block();
            b.goto(next);
            b.switch_to(next);
        });
        b.ret(&[]);
    })
}

#[test]
fn code_that_rarely_runs_has_no_back_edges() {
    // Both the handler and the poll's call jump back into the loop from behind all other code.
    for artifact in [
        retried(|b, _| {
            b.emit(Opcode::Poll, Type::Void, &[], Payload::None);
        }),
        retried(|b, value| b.check(value, dagwood_il::RaiseKind::Unreachable, 1)),
    ] {
        assert_eq!(frequencies(&artifact), [estimate(1)]);
        let all = instructions(&artifact, 0, artifact.code.len() as u32);
        let is_back = |instruction: &&Instruction| {
            let is_near = matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
            );
            is_near && instruction.near_branch_target() <= instruction.ip()
        };
        assert!(all.iter().filter(is_back).count() > 1, "there are branches backward besides");
    }
}

#[test]
fn arms_of_a_table_jump_back_each() {
    let arms = 6;
    let artifact = compile(&[Type::I32; 2], |b| {
        let [x, y] = [0, 1].map(|index| b.param(index));
        let (head, end) = (b.block(), b.block());
        let blocks: Vec<Block> = (0..arms).map(|_| b.block()).collect();
        b.goto(head);
        b.switch_to(head);
        let value = b.get(x);
        let cases: Vec<_> = (0..).zip(blocks.iter().copied()).collect();
        b.switch(value, &cases, end);
        for (index, block) in (0..).zip(blocks) {
            b.switch_to(block);
            let (value, more) = (b.get(y), b.i32(1 << index));
            let sum = b.op(Opcode::Add, &[value, more]);
            b.set(y, sum);
            b.set(x, sum);
            b.goto(head);
        }
        b.switch_to(end);
        b.ret(&[]);
    });
    let table = instructions(&artifact, 0, artifact.code.len() as u32);
    assert!(table.iter().any(|instruction| instruction.code() == Code::Jmp_rm64));
    assert_eq!(starts(&artifact), vec![Mnemonic::Jmp; arms as usize]);
    assert_eq!(frequencies(&artifact), vec![estimate(1); arms as usize]);
}

#[test]
fn of_many_loops_the_hottest_are_listed() {
    let artifact = compile(&[Type::I32; 3], |b| {
        let [x, y, limit] = [0, 1, 2].map(|index| b.param(index));
        for _ in 0..MAX_BACK_EDGES - 2 {
            until(b, x, limit, |_| {});
        }
        for _ in 0..3 {
            until(b, x, limit, |b| {
                until(b, y, limit, |_| {});
            });
        }
        b.ret(&[]);
    });
    let mut expected = vec![estimate(2); 3];
    expected.resize(MAX_BACK_EDGES, estimate(1));
    assert_eq!(frequencies(&artifact), expected);
}

#[test]
fn deep_nests_do_not_overflow() {
    let artifact = compile(&[Type::I32], |b| {
        fn nest(b: &mut Builder<'_, '_>, depth: u32) {
            let (x, limit) = (b.local(&format!("x{depth}"), Type::I32), b.param(0));
            until(b, x, limit, |b| {
                if depth > 0 {
                    nest(b, depth - 1);
                }
            });
        }
        nest(b, 20);
        b.ret(&[]);
    });
    assert_eq!(artifact.back_edges.len(), 21);
    assert_eq!(frequencies(&artifact).iter().max(), Some(&estimate(6)));
}
