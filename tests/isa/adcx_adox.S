# Two carry chains: ADCX has CF, ADOX OF, and neither touches another flag. r8 to r11 are slots in memory.
# cpu: x86-64-v3,+adx
# in:  rax=ffffffffffffffff rbx=1 r8=ffffffff r9=ffffffffffffffff rsi=20000010 mem:10=ffffffffffffffff flags=of,pf,zf
# out: rax=2 rbx=1 r8=0 r9=ffffffffffffffff rsi=20000010 rcx=0 flags=cf,of,pf,zf
adcx %rbx, %rax
adox %rbx, %rax
adox %ebx, %r8d
adcx (%rsi), %r9
mov $0, %ecx
