# FS and GS bases as test_case.h sets them.
# in:  mem:408=01 mem:c08=02
# out: rax=1 rcx=2
movzbl %fs:8, %eax
movzbl %gs:8, %ecx
