# A memory operand must be aligned, also where the TLB has its page. AMD's CPUs take it as it is.
# cpu: x86-64-v3,+sha-ni
# native: intel
# in:  rsi=20000010 ymm9=0000000000000000000000000000000000000000000000000000000000000007
# out: rsi=20000010 ymm9=0000000000000000000000000000000000000000000000000000000000000007 fault=d rip=10000012
sha1msg1 (%rsi), %xmm9
sha1msg1 16(%rsi), %xmm9
mov (%rsi), %rax
mov 8(%rsi), %rax
sha1msg1 8(%rsi), %xmm9
