/* SPDX-License-Identifier: MIT */
/*
 * switch.c: the context switch keeps what the ABI wants kept across a call, and %fs.
 */
#include <string.h>
#include <sys/auxv.h>

#include "switch.h"
#include "tap.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(low, size) ((void)0)
#endif

/*
 * switch_with_registers: switch_to, with the six callee-saved registers loaded from in
 * before and stored to out after: rbx rbp r12 r13 r14 r15.
 */
void switch_with_registers(void **save, void *load, void *fs, const uint64_t *in,
			   uint64_t *out);
__asm__(".text\n"
	"switch_with_registers:\n"
	"	pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
	"	pushq %r8\n"
	"	movq 0(%rcx), %rbx; movq 8(%rcx), %rbp; movq 16(%rcx), %r12\n"
	"	movq 24(%rcx), %r13; movq 32(%rcx), %r14; movq 40(%rcx), %r15\n"
	"	call switch_to\n"
	"	popq %r8\n"
	"	movq %rbx, 0(%r8); movq %rbp, 8(%r8); movq %r12, 16(%r8)\n"
	"	movq %r13, 24(%r8); movq %r14, 32(%r8); movq %r15, 40(%r8)\n"
	"	popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
	"	ret\n");

#define FROM_FS_0(p) __asm__ volatile("movq %%fs:0, %0" : "=r"(p))

static struct context {
	void *sp;
	void *fs;
	_Alignas(64) char stack[64 * 1024];
} other;
static void *main_sp, *main_fs;
static void *given; /* what the entry function got */
static bool aligned;

static void to_main(void)
{
	switch_to(&other.sp, main_sp, main_fs);
}

static void to_other(void)
{
	switch_to(&main_sp, other.sp, other.fs);
}

static void prepare(void (*entry)(void *), void *arg)
{
	/* The last context left it in the middle of its functions. */
	ASAN_UNPOISON_MEMORY_REGION(other.stack, sizeof(other.stack));
	FROM_FS_0(main_fs);
	other.fs = main_fs;
	other.sp = switch_prepare(other.stack + sizeof(other.stack), entry, arg);
}

/* --- the first entry ------------------------------------------------------------------ */

static void look_around(void *arg)
{
	_Alignas(16) volatile char local[16];

	given = arg;
	aligned = (uintptr_t)__builtin_frame_address(0) % 16 == 0 &&
		  (uintptr_t)local % 16 == 0 && local >= other.stack &&
		  local < other.stack + sizeof(other.stack);
	for (;;)
		to_main();
}

static void enters_with_its_argument(void)
{
	prepare(look_around, &given);
	to_other();
	EXPECT(given == &given);
	EXPECT(aligned);
	to_other(); /* and comes back a second time */
}

/* --- registers ------------------------------------------------------------------------- */

enum { N_KEPT = 6, N_ROUNDS = 1000 };

static void registers_differ(uint64_t *in, uint64_t seed)
{
	for (uint64_t i = 0; i < N_KEPT; i++)
		in[i] = (seed + i + 1) * 0x9e3779b97f4a7c15;
}

static void keep_other_registers(void *arg)
{
	uint64_t in[N_KEPT], out[N_KEPT];

	(void)arg;
	for (uint64_t i = 0;; i++) {
		registers_differ(in, i * 2);
		switch_with_registers(&other.sp, main_sp, main_fs, in, out);
		EXPECT(memcmp(in, out, sizeof(in)) == 0);
	}
}

static void registers_are_kept(void)
{
	uint64_t in[N_KEPT], out[N_KEPT];

	prepare(keep_other_registers, NULL);
	for (uint64_t i = 0; i < N_ROUNDS; i++) {
		registers_differ(in, i * 2 + 1);
		memset(out, 0, sizeof(out));
		switch_with_registers(&main_sp, other.sp, other.fs, in, out);
		EXPECT(memcmp(in, out, sizeof(in)) == 0);
	}
}

/* --- control words ----------------------------------------------------------------------- */

enum {
	MXCSR_DEFAULT = 0x1f80,
	MXCSR_DOWN = 0x3f80, /* round down */
	MXCSR_TRUNCATE = 0x7f80,
	X87_DEFAULT = 0x37f,
	X87_SINGLE = 0x07f, /* precision of 24 bits, round to nearest */
	X87_TRUNCATE = 0xf7f,
};

static void set_control(uint32_t mxcsr, uint16_t x87)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	__asm__ volatile("fldcw %0" : : "m"(x87));
}

static bool control_is(uint32_t mxcsr, uint16_t x87)
{
	uint32_t mxcsr_now;
	uint16_t x87_now;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr_now));
	__asm__ volatile("fnstcw %0" : "=m"(x87_now));
	return (mxcsr_now & ~0x3fU) == mxcsr &&
	       x87_now == x87; /* without the sticky flags */
}

static void keep_other_control(void *arg)
{
	(void)arg;
	/* A fresh context begins with its maker's, as pthread_create has it. */
	EXPECT(control_is(MXCSR_DOWN, X87_SINGLE));
	set_control(MXCSR_DEFAULT, X87_DEFAULT);
	to_main();
	EXPECT(control_is(MXCSR_DEFAULT, X87_DEFAULT));
	set_control(MXCSR_DEFAULT, X87_TRUNCATE); /* only the one differs */
	to_main();
	EXPECT(control_is(MXCSR_DEFAULT, X87_TRUNCATE));
	set_control(MXCSR_TRUNCATE, X87_DEFAULT); /* only the other */
	for (;;) {
		to_main();
		EXPECT(control_is(MXCSR_TRUNCATE, X87_DEFAULT));
	}
}

static void control_words_are_kept(void)
{
	set_control(MXCSR_DOWN, X87_SINGLE);
	prepare(keep_other_control, NULL);
	set_control(MXCSR_DEFAULT, X87_DEFAULT);
	for (int i = 0; i < 2; i++) {
		to_other();
		EXPECT(control_is(MXCSR_DEFAULT, X87_DEFAULT));
	}
	for (int i = 0; i < 3; i++) {
		set_control(MXCSR_DOWN, X87_SINGLE);
		to_other();
		EXPECT(control_is(MXCSR_DOWN, X87_SINGLE));
	}
	set_control(MXCSR_DEFAULT, X87_DEFAULT);
}

/* --- %fs ---------------------------------------------------------------------------------- */

/* A TCB in so far as its first word is its own address; enough for code without libc. */
static void *fake_tcb[64];
static void *seen_fs;
static int n_seen;

static void look_at_fs(void *arg)
{
	(void)arg;
	for (;;) {
		FROM_FS_0(seen_fs);
		n_seen++;
		to_main();
	}
}

static void fs_is_switched(void)
{
	prepare(look_at_fs, NULL);
	fake_tcb[0] = fake_tcb;
	other.fs = fake_tcb;
	n_seen = 0;
	for (int i = 1; i <= N_ROUNDS; i++) {
		void *fs;

		seen_fs = NULL;
		to_other();
		FROM_FS_0(fs);
		EXPECT(fs == main_fs);
		EXPECT(seen_fs == fake_tcb && n_seen == i);
	}
}

static void fs_is_switched_by_the_kernel(void)
{
	uint8_t has = switch_has_fsgsbase;

	switch_has_fsgsbase = 0;
	fs_is_switched();
	registers_are_kept();
	control_words_are_kept();
	switch_has_fsgsbase = has;
}

static void fs_is_switched_by_wrfsbase(void)
{
	switch_has_fsgsbase = 1;
	fs_is_switched();
	registers_are_kept();
	control_words_are_kept();
	switch_has_fsgsbase = 0;
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	/* It keeps a stack of calls for each kernel thread. */
	printf("1..0 # SKIP ThreadSanitizer knows nothing of contexts\n");
	exit(0);
#endif
	tap_test("a fresh context begins with its argument, on an aligned stack",
		 enters_with_its_argument);
	tap_test("callee-saved registers are kept", registers_are_kept);
	tap_test("the control words of SSE and x87 are kept", control_words_are_kept);
	tap_test("all of it where the kernel sets %fs", fs_is_switched_by_the_kernel);
	if (getauxval(AT_HWCAP2) & 2)
		tap_test("all of it where wrfsbase does", fs_is_switched_by_wrfsbase);
	else
		tap_skip("all of it where wrfsbase does", "this machine has none");
	return tap_done();
}
