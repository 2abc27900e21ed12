"""Encodings of generated machine code: bytes of each form of instruction, as a disassembler reads them."""

import struct

import pytest

from nnmath_core.program.native.assembler import (
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    Literal,
    Memory,
)
from nnmath_core.program.native.avx2 import Avx2
from nnmath_core.program.native.avx512 import Avx512

# What objdump -M intel (binutils 2.40) says of the bytes: how they are made, bytes of an entry, the bytes. All is here:
# registers from 16 on, masks, bases that take another byte (rsp, r12) or an offset (rbp, r13), indexes from r8 on.
INSTRUCTIONS = {
    "vaddps zmm1,zmm2,zmm3": (lambda a: a.real(0x58, 1, 2, 3), 4, "62f16c4858cb"),
    "vaddpd zmm1,zmm2,zmm3": (lambda a: a.real(0x58, 1, 2, 3), 8, "62f1ed4858cb"),
    "vmulps zmm31,zmm16,zmm24": (lambda a: a.real(0x59, 31, 16, 24), 4, "62017c4059f8"),
    "vsubpd zmm8,zmm23,zmm15": (lambda a: a.real(0x5C, 8, 23, 15), 8, "6251c5405cc7"),
    "vminps zmm17,zmm9,ZMMWORD PTR [rdi+0x8]": (
        lambda a: a.real(0x5D, 17, 9, Memory(RDI, offset=8)),
        4,
        "62e134485d8f08000000",
    ),
    "vmaxpd zmm3,zmm30,ZMMWORD PTR [rsp+0x40]": (
        lambda a: a.real(0x5F, 3, 30, Memory(RSP, offset=64)),
        8,
        "62f18d405f9c2440000000",
    ),
    "vdivps zmm5,zmm6,ZMMWORD PTR [r12-0x40]": (
        lambda a: a.real(0x5E, 5, 6, Memory(12, offset=-64)),
        4,
        "62d14c485eac24c0ffffff",
    ),
    "vdivpd zmm5,zmm6,ZMMWORD PTR [r13+0x0]": (
        lambda a: a.real(0x5E, 5, 6, Memory(13)),
        8,
        "62d1cd485ead00000000",
    ),
    "vsqrtps zmm20,ZMMWORD PTR [rbp+0x0]": (
        lambda a: a.real(0x51, 20, 0, Memory(RBP)),
        4,
        "62e17c4851a500000000",
    ),
    "vandps zmm4,zmm5,ZMMWORD PTR [r12+rax*4+0x100]": (
        lambda a: a.real(0x54, 4, 5, Memory(12, RAX, 4, 256)),
        4,
        "62d1544854a48400010000",
    ),
    "vandnpd zmm4,zmm5,ZMMWORD PTR [r13+rax*8+0x100]": (
        lambda a: a.real(0x55, 4, 5, Memory(13, RAX, 8, 256)),
        8,
        "62d1d54855a4c500010000",
    ),
    "vorps zmm4,zmm5,ZMMWORD PTR [rbp+r13*2+0x0]": (
        lambda a: a.real(0x56, 4, 5, Memory(RBP, 13, 2)),
        4,
        "62b1544856a46d00000000",
    ),
    "vxorpd zmm25,zmm26,ZMMWORD PTR [rbx+r12*1-0x1]": (
        lambda a: a.real(0x57, 25, 26, Memory(RBX, 12, 1, -1)),
        8,
        "6221ad40578c23ffffffff",
    ),
    "vaddps zmm1{k7},zmm1,zmm3": (lambda a: a.accumulate(0x58, 1, 3, 7), 4, "62f1744f58cb"),
    "vmovapd zmm1{k5}{z},zmm3": (lambda a: a.keep(1, 5, 3), 8, "62f1fdcd28cb"),
    "vfmadd231ps zmm16,zmm17,zmm18": (lambda a: a.fused(0xB8, 16, 17, 18), 4, "62a27540b8c2"),
    "vfmadd213pd zmm1,zmm2,ZMMWORD PTR [r15+r14*8+0x0]": (
        lambda a: a.fused(0xA8, 1, 2, Memory(15, 14, 8)),
        8,
        "6292ed48a88cf700000000",
    ),
    "vscalefps zmm7{k2}{z},zmm8,zmm31": (
        lambda a: a.evex(0x2C, 7, 8, 31, table=2, prefix=1, mask=2, zero=True),
        4,
        "62923dca2cff",
    ),
    "vmovaps zmm31,zmm0": (lambda a: a.move(31, 0), 4, "62617c4828f8"),
    "vmovapd zmm0{k3},zmm31": (lambda a: a.move(0, 31, mask=3), 8, "6291fd4b28c7"),
    "vmovups zmm9,ZMMWORD PTR [r8+rax*4+0x0]": (
        lambda a: a.load(9, Memory(8, RAX, 4)),
        4,
        "62517c48108c8000000000",
    ),
    "vmovupd zmm30{k7}{z},ZMMWORD PTR [r9+rax*8+0x0]": (
        lambda a: a.load(30, Memory(9, RAX, 8), tail=True),
        8,
        "6241fdcf10b4c100000000",
    ),
    "vmovups ZMMWORD PTR [r10+rax*4+0x40],zmm19": (
        lambda a: a.store(Memory(10, RAX, 4, 64), 19),
        4,
        "62c17c48119c8240000000",
    ),
    "vmovupd ZMMWORD PTR [r11+rax*8+0x0]{k7},zmm2": (
        lambda a: a.store(Memory(11, RAX, 8), 2, tail=True),
        8,
        "62d1fd4f1194c300000000",
    ),
    "vmovntps ZMMWORD PTR [r14+rax*4+0x80],zmm22": (
        lambda a: a.stream(Memory(14, RAX, 4, 128), 22),
        4,
        "62c17c482bb48680000000",
    ),
    "vmovntpd ZMMWORD PTR [r14+rax*8+0x0],zmm22": (
        lambda a: a.stream(Memory(14, RAX, 8), 22),
        8,
        "62c1fd482bb4c600000000",
    ),
    "vbroadcastss zmm18,DWORD PTR [rdx+0x0]": (
        lambda a: a.broadcast(18, Memory(RDX)),
        4,
        "62e27d48189200000000",
    ),
    "vbroadcastsd zmm2,QWORD PTR [rdx+0x0]": (
        lambda a: a.broadcast(2, Memory(RDX)),
        8,
        "62f2fd48199200000000",
    ),
    "vcmplt_oqps k1,zmm20,zmm21": (lambda a: a.compare(1, 20, 21, 0x11), 4, "62b15c40c2cd11"),
    "vcmpunordpd k6{k7},zmm2,ZMMWORD PTR [rcx+0x0]": (
        lambda a: a.compare(6, 2, Memory(RCX), 3, mask=7),
        8,
        "62f1ed4fc2b10000000003",
    ),
    "vblendmps zmm11{k2},zmm12,zmm29": (lambda a: a.blend(11, 2, 12, 29), 4, "62121d4a65dd"),
    "vblendmpd zmm11{k6},zmm28,zmm13": (lambda a: a.blend(11, 6, 28, 13), 8, "62529d4665dd"),
    "vrndscaleps zmm16,zmm1,0x8": (lambda a: a.round(16, 1, 0), 4, "62e37d4808c108"),
    "vrndscalepd zmm1,zmm16,0xb": (lambda a: a.round(1, 16, 3), 8, "62b3fd4809c80b"),
    "kandw k1,k2,k3": (lambda a: a.vex(0x41, 1, 2, 3, length=1), 4, "c4e16c41cb"),
    "korw k7,k6,k5": (lambda a: a.vex(0x45, 7, 6, 5, length=1), 4, "c4e14c45fd"),
    "kxorw k4,k3,k2": (lambda a: a.vex(0x47, 4, 3, 2, length=1), 4, "c4e16447e2"),
    "knotw k1,k2": (lambda a: a.vex(0x44, 1, 0, 2), 4, "c4e17844ca"),
    "kmovw k7,ecx": (lambda a: a.vex(0x92, 7, 0, RCX), 4, "c4e17892f9"),
    "kmovw edx,k4": (lambda a: a.vex(0x93, RDX, 0, 4), 4, "c4e17893d4"),
    "kortestw k3,k3": (lambda a: a.vex(0x98, 3, 0, 3), 4, "c4e17898db"),
    "bzhi rcx,rcx,rdx": (lambda a: a.vex(0xF5, RCX, RDX, RCX, table=2, wide=True), 4, "c4e2e8f5c9"),
    "bzhi r9,r11,r10": (lambda a: a.vex(0xF5, 9, 10, 11, table=2, wide=True), 4, "c442a8f5cb"),
    "mov r8,QWORD PTR [rdi+0x18]": (
        lambda a: a.plain(0x8B, 8, Memory(RDI, offset=24)),
        4,
        "4c8b8718000000",
    ),
    "mov rsi,QWORD PTR [rsi+0x0]": (lambda a: a.plain(0x8B, RSI, Memory(RSI)), 4, "488bb600000000"),
    "mov r15,QWORD PTR [r12+0x0]": (lambda a: a.plain(0x8B, 15, Memory(12)), 4, "4d8bbc2400000000"),
    "mov rax,QWORD PTR [r13+rcx*8+0x0]": (
        lambda a: a.plain(0x8B, RAX, Memory(13, RCX, 8)),
        4,
        "498b84cd00000000",
    ),
    "sub rdx,rax": (lambda a: a.plain(0x2B, RDX, RAX), 4, "482bd0"),
    "cmp r14,rsi": (lambda a: a.plain(0x3B, 14, RSI), 4, "4c3bf6"),
    "xor eax,eax": (lambda a: a.plain(0x33, RAX, RAX, wide=False), 4, "4033c0"),
    "movzx edx,BYTE PTR [rdx+0x0]": (
        lambda a: a.plain(0xB6, RDX, Memory(RDX), escape=b"\x0f", wide=False),
        4,
        "400fb69200000000",
    ),
    "neg edx": (lambda a: a.plain(0xF7, 3, RDX, wide=False), 4, "40f7da"),
    "sbb edx,edx": (lambda a: a.plain(0x1B, RDX, RDX, wide=False), 4, "401bd2"),
    "vpmovzxbd zmm17{k7}{z},XMMWORD PTR [r9+rax*1+0x0]": (
        lambda a: a.evex(0x31, 17, 0, Memory(9, RAX, 1), table=2, prefix=1, mask=7, zero=True),
        4,
        "62c27dcf318c0100000000",
    ),
    "vpmovzxbq zmm3,QWORD PTR [r9+rax*1+0x0]": (
        lambda a: a.evex(0x32, 3, 0, Memory(9, RAX, 1), table=2, prefix=1),
        8,
        "62d27d48329c0100000000",
    ),
    "vptestmd k2,zmm17,zmm17": (
        lambda a: a.evex(0x27, 2, 17, 17, table=2, prefix=1),
        4,
        "62b2754027d1",
    ),
    "vptestmq k2,zmm17,zmm17": (
        lambda a: a.evex(0x27, 2, 17, 17, table=2, prefix=1, wide=True),
        8,
        "62b2f54027d1",
    ),
    "vmovdqu8 xmm5{k2}{z},xmm5": (
        lambda a: a.evex(0x6F, 5, 0, 5, prefix=3, mask=2, zero=True, length=0),
        4,
        "62f17f8a6fed",
    ),
    "vmovq QWORD PTR [rdx+0x0],xmm21": (
        lambda a: a.evex(0xD6, 21, 0, Memory(RDX), prefix=1, wide=True, length=0),
        4,
        "62e1fd08d6aa00000000",
    ),
    "vmovdqu8 XMMWORD PTR [rdx+0x0]{k7},xmm5": (
        lambda a: a.evex(0x7F, 5, 0, Memory(RDX), prefix=3, mask=7, length=0),
        4,
        "62f17f0f7faa00000000",
    ),
    "vpbroadcastd zmm12,ecx": (
        lambda a: a.evex(0x7C, 12, 0, RCX, table=2, prefix=1),
        4,
        "62727d487ce1",
    ),
    "vpbroadcastq zmm12,r9": (
        lambda a: a.evex(0x7C, 12, 0, 9, table=2, prefix=1, wide=True),
        4,
        "6252fd487ce1",
    ),
    "vextractf64x4 ymm3,zmm16,0x1": (
        lambda a: a.evex(0x1B, 16, 0, 3, table=3, prefix=1, wide=True, immediate=1),
        4,
        "62e3fd481bc301",
    ),
    "vextractf64x2 xmm16,ymm3,0x1": (
        lambda a: a.evex(0x19, 3, 0, 16, table=3, prefix=1, wide=True, length=1, immediate=1),
        4,
        "62b3fd2819d801",
    ),
    "vcvtps2pd zmm20,ymm4": (lambda a: a.evex(0x5A, 20, 0, 4), 4, "62e17c485ae4"),
    "vmovshdup xmm4,xmm20": (
        lambda a: a.evex(0x16, 4, 0, 20, prefix=2, length=0),
        4,
        "62b17e0816e4",
    ),
    "vaddsd xmm4{k1},xmm5,QWORD PTR [rdx+0x8]": (
        lambda a: a.evex(0x58, 4, 5, Memory(RDX, offset=8), prefix=3, wide=True, length=0, mask=1),
        4,
        "62f1d70958a208000000",
    ),
    "vcvtsd2ss xmm4,xmm5,xmm6": (
        lambda a: a.evex(0x5A, 4, 5, 6, prefix=3, wide=True, length=0),
        4,
        "62f1d7085ae6",
    ),
    "prefetcht0 BYTE PTR [r8+rax*4+0x840]": (
        lambda a: a.plain(0x18, 1, Memory(8, RAX, 4, 2112), wide=False, escape=b"\x0f"),
        4,
        "410f188c8040080000",
    ),
    "prefetchw BYTE PTR [r13+rax*8+0x800]": (
        lambda a: a.plain(0x0D, 1, Memory(13, RAX, 8, 2048), wide=False, escape=b"\x0f"),
        4,
        "410f0d8cc500080000",
    ),
    "vgetexpps zmm17,zmm3": (
        lambda a: a.evex(0x42, 17, 0, 3, table=2, prefix=1),
        4,
        "62e27d4842cb",
    ),
    "vgetmantpd zmm17,zmm30,0x0": (
        lambda a: a.evex(0x26, 17, 0, 30, table=3, prefix=1, wide=True, immediate=0),
        8,
        "6283fd4826ce00",
    ),
    "vfixupimmps zmm5,zmm21,zmm6,0x0": (
        lambda a: a.evex(0x54, 5, 21, 6, table=3, prefix=1, immediate=0),
        4,
        "62f3554054ee00",
    ),
}


INSTRUCTIONS_OF_AVX2 = {
    "vaddps ymm1,ymm2,ymm3": (lambda a: a.real(0x58, 1, 2, 3), 4, "c4e16c58cb"),
    "vmulpd ymm15,ymm8,ymm9": (lambda a: a.real(0x59, 15, 8, 9), 8, "c441bd59f9"),
    "vminps ymm9,ymm14,YMMWORD PTR [rdi+0x8]": (
        lambda a: a.real(0x5D, 9, 14, Memory(RDI, offset=8)),
        4,
        "c4610c5d8f08000000",
    ),
    "vdivpd ymm5,ymm6,YMMWORD PTR [r12-0x40]": (
        lambda a: a.real(0x5E, 5, 6, Memory(12, offset=-64)),
        8,
        "c4c1cd5eac24c0ffffff",
    ),
    "vsqrtps ymm10,YMMWORD PTR [r13+0x0]": (
        lambda a: a.real(0x51, 10, 0, Memory(13)),
        4,
        "c4417c519500000000",
    ),
    "vandpd ymm4,ymm5,YMMWORD PTR [rsp+0x30]": (
        lambda a: a.real(0x54, 4, 5, Memory(RSP, offset=48)),
        8,
        "c4e1d554a42430000000",
    ),
    "vxorps ymm4,ymm5,YMMWORD PTR [r13+r12*8+0x100]": (
        lambda a: a.real(0x57, 4, 5, Memory(13, 12, 8, 256)),
        4,
        "c4815457a4e500010000",
    ),
    "vfmadd231ps ymm10,ymm11,ymm12": (lambda a: a.fused(0xB8, 10, 11, 12), 4, "c44225b8d4"),
    "vfmadd213pd ymm1,ymm2,YMMWORD PTR [r15+r14*8+0x0]": (
        lambda a: a.fused(0xA8, 1, 2, Memory(15, 14, 8)),
        8,
        "c482eda88cf700000000",
    ),
    "vmovaps ymm15,ymm0": (lambda a: a.move(15, 0), 4, "c4617c28f8"),
    "vblendvpd ymm0,ymm0,ymm15,ymm3": (lambda a: a.move(0, 15, mask=3), 8, "c4c37d4bc730"),
    "vblendvps ymm2,ymm2,ymm1,ymm12": (lambda a: a.move(2, 1, mask=12), 4, "c4e36d4ad1c0"),
    "vandps ymm1,ymm14,ymm3": (lambda a: a.keep(1, 14, 3), 4, "c4e10c54cb"),
    "vmovups ymm9,YMMWORD PTR [r8+rax*4+0x0]": (
        lambda a: a.load(9, Memory(8, RAX, 4)),
        4,
        "c4417c108c8000000000",
    ),
    "vmovups YMMWORD PTR [r10+rax*4+0x40],ymm12": (
        lambda a: a.store(Memory(10, RAX, 4, 64), 12),
        4,
        "c4417c11a48240000000",
    ),
    "vmovntpd YMMWORD PTR [r14+rax*8+0x80],ymm13": (
        lambda a: a.stream(Memory(14, RAX, 8, 128), 13),
        8,
        "c441fd2bacc680000000",
    ),
    "vmaskmovps ymm9,ymm14,YMMWORD PTR [r8+rax*4+0x0]": (
        lambda a: a.vex(0x2C, 9, 14, Memory(8, RAX, 4), table=2, prefix=1, length=1),
        4,
        "c4420d2c8c8000000000",
    ),
    "vmaskmovpd YMMWORD PTR [r11+rax*8+0x0],ymm14,ymm9": (
        lambda a: a.vex(0x2F, 9, 14, Memory(11, RAX, 8), table=2, prefix=1, length=1),
        8,
        "c4420d2f8cc300000000",
    ),
    "vbroadcastss ymm11,DWORD PTR [rdx+0x0]": (
        lambda a: a.broadcast(11, Memory(RDX)),
        4,
        "c4627d189a00000000",
    ),
    "vbroadcastsd ymm2,QWORD PTR [rdx+0x0]": (
        lambda a: a.broadcast(2, Memory(RDX)),
        8,
        "c4e27d199200000000",
    ),
    "vcmplt_oqps ymm1,ymm10,ymm11": (lambda a: a.compare(1, 10, 11, 0x11), 4, "c4c12cc2cb11"),
    "vcmpunordpd ymm6,ymm2,YMMWORD PTR [rcx+0x0]": (
        lambda a: a.compare(6, 2, Memory(RCX), 3),
        8,
        "c4e16dc2b10000000003",
    ),
    "vblendvps ymm11,ymm12,ymm13,ymm2": (lambda a: a.blend(11, 2, 12, 13), 4, "c4431d4add20"),
    "vblendvpd ymm1,ymm8,ymm3,ymm15": (lambda a: a.blend(1, 15, 8, 3), 8, "c4e33d4bcbf0"),
    "vroundps ymm9,ymm1,0x8": (lambda a: a.round(9, 1, 0), 4, "c4637d08c908"),
    "vroundpd ymm1,ymm9,0xb": (lambda a: a.round(1, 9, 3), 8, "c4c3fd09c90b"),
    "vpcmpeqd ymm1,ymm2,ymm3": (lambda a: a.same(1, 2, 3), 4, "c4e16d76cb"),
    "vpcmpeqq ymm1,ymm2,ymm3": (lambda a: a.same(1, 2, 3), 8, "c4e26d29cb"),
    "vextractf128 xmm3,ymm9,0x1": (lambda a: a.half(3, 9, 0), 4, "c4637d19cb01"),
    "vcvtps2pd ymm10,xmm4": (lambda a: a.widen(10, 4), 4, "c4617c5ad4"),
    "vmovmskps ecx,ymm9": (lambda a: a.to_general(RCX, 9), 4, "c4c17c50c9"),
    "vmovmskpd edx,ymm4": (lambda a: a.to_general(RDX, 4), 8, "c4e17d50d4"),
    "vmovd xmm9,edx": (lambda a: a.vex(0x6E, 9, 0, RDX, prefix=1), 4, "c461796eca"),
    "vmovq xmm9,r9": (lambda a: a.vex(0x6E, 9, 0, 9, prefix=1, wide=True), 8, "c441f96ec9"),
    "vpbroadcastd ymm9,xmm9": (
        lambda a: a.vex(0x58, 9, 0, 9, prefix=1, length=1, table=2),
        4,
        "c4427d58c9",
    ),
    "vpbroadcastq ymm9,xmm9": (
        lambda a: a.vex(0x59, 9, 0, 9, prefix=1, length=1, table=2),
        8,
        "c4427d59c9",
    ),
    "vpslld ymm9,ymm10,0x17": (
        lambda a: a.vex(0x72, 6, 9, 10, prefix=1, length=1, immediate=23),
        4,
        "c4c13572f217",
    ),
    "vpsrlq ymm9,ymm1,0x34": (
        lambda a: a.vex(0x73, 2, 9, 1, prefix=1, length=1, immediate=52),
        8,
        "c4e13573d134",
    ),
    "vcvtdq2ps ymm9,ymm9": (lambda a: a.vex(0x5B, 9, 0, 9, length=1), 4, "c4417c5bc9"),
    "vpmovzxbd ymm9,QWORD PTR [r9+rax*1+0x0]": (
        lambda a: a.vex(0x31, 9, 0, Memory(9, RAX, 1), table=2, prefix=1, length=1),
        4,
        "c4427d318c0100000000",
    ),
    "vpmovzxbq ymm3,DWORD PTR [r9+rax*1+0x0]": (
        lambda a: a.vex(0x32, 3, 0, Memory(9, RAX, 1), table=2, prefix=1, length=1),
        8,
        "c4c27d329c0100000000",
    ),
    "vpcmpgtd ymm9,ymm9,ymm10": (
        lambda a: a.vex(0x66, 9, 9, 10, prefix=1, length=1),
        4,
        "c4413566ca",
    ),
    "vpcmpgtq ymm9,ymm9,ymm10": (
        lambda a: a.vex(0x37, 9, 9, 10, prefix=1, length=1, table=2),
        8,
        "c4423537ca",
    ),
    "vpackssdw xmm9,xmm10,xmm11": (lambda a: a.vex(0x6B, 9, 10, 11, prefix=1), 4, "c441296bcb"),
    "vpacksswb xmm9,xmm9,xmm9": (lambda a: a.vex(0x63, 9, 9, 9, prefix=1), 4, "c4413163c9"),
    "vshufps xmm9,xmm10,xmm11,0x88": (
        lambda a: a.vex(0xC6, 9, 10, 11, immediate=0x88),
        8,
        "c44128c6cb88",
    ),
    "vmovq QWORD PTR [r8+rax*1+0x0],xmm9": (
        lambda a: a.vex(0xD6, 9, 0, Memory(8, RAX, 1), prefix=1),
        4,
        "c44179d68c0000000000",
    ),
    "vmovd DWORD PTR [r8+rax*1+0x0],xmm9": (
        lambda a: a.vex(0x7E, 9, 0, Memory(8, RAX, 1), prefix=1),
        8,
        "c441797e8c0000000000",
    ),
    "vcvtsi2sd xmm9,xmm9,rcx": (
        lambda a: a.packed(0x2A, 9, 9, RCX, prefix=3, wide=True, length=0),
        8,
        "c461b32ac9",
    ),
    "vaddsd xmm4,xmm5,QWORD PTR [rdx+0x8]": (
        lambda a: a.packed(0x58, 4, 5, Memory(RDX, offset=8), prefix=3, length=0),
        8,
        "c4e15358a208000000",
    ),
    "vunpckhpd xmm9,xmm10,xmm10": (
        lambda a: a.packed(0x15, 9, 10, 10, prefix=1, length=0),
        8,
        "c4412915ca",
    ),
    "vmovshdup xmm4,xmm10": (
        lambda a: a.packed(0x16, 4, 0, 10, prefix=2, length=0),
        4,
        "c4c17a16e2",
    ),
    "vmovss DWORD PTR [rdx+0x0],xmm9": (
        lambda a: a.packed(0x11, 9, 0, Memory(RDX), prefix=2, length=0),
        4,
        "c4617a118a00000000",
    ),
    "lea rdx,[r13+rax*1+0x0]": (
        lambda a: a.plain(0x8D, RDX, Memory(13, RAX, 1)),
        4,
        "498d940500000000",
    ),
    "mov BYTE PTR [rsp+rcx*1-0x11],r8b": (
        lambda a: a.plain(0x88, 8, Memory(RSP, RCX, 1, -17), wide=False),
        4,
        "4488840cefffffff",
    ),
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Avx512, x) for x in INSTRUCTIONS] + [(Avx2, x) for x in INSTRUCTIONS_OF_AVX2],
)
def test_an_instruction_has_its_bytes(kind, text):
    make, size, want = (INSTRUCTIONS if kind is Avx512 else INSTRUCTIONS_OF_AVX2)[text]
    asm = kind(double=size == 8)
    make(asm)
    assert asm.code.hex() == want


def test_jumps_go_to_their_labels():
    """A distance counts from the end of the jump, whose last four bytes hold it."""
    asm = Avx512(double=False)
    asm.jump("behind")
    asm.label("before")
    asm.code += b"\x90" * 3
    asm.jump("before", 5)
    asm.jump("before", 0xC)
    asm.label("behind")
    asm.code += b"\xc3"
    code = asm.finished()
    assert code[:5] == b"\xe9" + struct.pack("<i", 3 + 6 + 6)
    assert code[8:14] == b"\x0f\x85" + struct.pack("<i", -9)
    assert code[14:20] == b"\x0f\x8c" + struct.pack("<i", -15)
    assert code[20:21] == b"\xc3"


@pytest.mark.parametrize("double", [False, True])
def test_literals_lie_behind_the_code_once_each(double):
    """An operand relative to the next instruction: an immediate byte counts too. Vectors of literals come last."""
    size = 8 if double else 4
    asm = Avx512(double=double)
    lanes = Literal(int.from_bytes(bytes(range(64)), "little"), lanes=True)
    ends = []
    for make in (
        lambda: asm.real(0x58, 1, 2, lanes),
        lambda: asm.real(0x58, 1, 2, Literal(7)),
        lambda: asm.compare(1, 2, Literal(9), 0x11),
        lambda: asm.broadcast(17, Literal(7)),
    ):
        make()
        ends.append(len(asm.code))
    code = asm.finished()
    assert len(code) == 64 + 2 * size + 64

    def found(k, immediate, n):
        offset = struct.unpack_from("<i", code, ends[k] - 4 - immediate)[0]
        return code[ends[k] + offset : ends[k] + offset + n]

    assert found(0, 0, 64) == bytes(range(64))
    assert found(1, 0, size) == found(3, 0, size) == (7).to_bytes(size, "little")
    assert found(2, 1, size) == (9).to_bytes(size, "little")
    # one entry for all lanes: bit 4 of the fourth byte; not where the instruction broadcasts anyway
    assert [code[p + 3] >> 4 & 1 for p in (0, ends[0], ends[1], ends[2])] == [0, 1, 1, 0]


@pytest.mark.parametrize("double", [False, True])
def test_literals_of_avx2_are_whole_vectors(double):
    """An operand in memory is a vector there: one entry stands in it as often as there are lanes."""
    size = 8 if double else 4
    asm = Avx2(double=double)
    asm.real(0x58, 1, 2, Literal(7))
    asm.broadcast(3, Literal(7))
    code = asm.finished()
    offset = struct.unpack_from("<i", code, 5)[0]
    assert len(code) == 64 + 32
    assert code[9 + offset :] == (7).to_bytes(size, "little") * (32 // size)


def test_code_is_filled_up_to_a_line_of_the_cache():
    asm = Avx512(double=False)
    asm.code += b"\xc3"
    assert len(asm.finished()) == 64
