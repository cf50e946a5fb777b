#include "linux/elf_symbols.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

namespace deja {
namespace {

// A file with one segment, a build-id note in it, and symbols.
std::vector<u8> make_elf(bool fixed = true, u32 table = SHT_SYMTAB) {
  struct File {
    Elf64_Ehdr header;
    Elf64_Phdr load, note;
    struct {
      Elf64_Nhdr header;
      char owner[4];
      u8 id[20];
    } build_id;
    Elf64_Sym symbols[4];
    char strings[32];
    Elf64_Shdr sections[3];
  } f{};
  std::memcpy(f.header.e_ident,
              "\x7f"
              "ELF\2\1\1",
              7);
  f.header.e_type = fixed ? ET_EXEC : ET_DYN;
  f.header.e_machine = EM_X86_64;
  f.header.e_phoff = offsetof(File, load);
  f.header.e_phentsize = sizeof(Elf64_Phdr);
  f.header.e_phnum = 2;
  f.header.e_shoff = offsetof(File, sections);
  f.header.e_shentsize = sizeof(Elf64_Shdr);
  f.header.e_shnum = 3;
  f.load.p_type = PT_LOAD;
  f.load.p_vaddr = 0x400000;
  f.load.p_memsz = 0x2000;
  f.note.p_type = PT_NOTE;
  f.note.p_offset = offsetof(File, build_id);
  f.note.p_filesz = sizeof f.build_id;
  f.build_id.header = {4, 20, NT_GNU_BUILD_ID};
  std::memcpy(f.build_id.owner, "GNU", 4);
  for (u8 i = 0; i < 20; ++i) f.build_id.id[i] = i;
  std::memcpy(f.strings, "\0main\0table\0start\0", 18);
  f.symbols[1] = {1, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, 0x400100, 0x40};
  f.symbols[2] = {6, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, 1, 0x401000, 0x100};
  f.symbols[3] = {12, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), 0, 1, 0x400000, 0};
  f.sections[1].sh_type = table;
  f.sections[1].sh_offset = offsetof(File, symbols);
  f.sections[1].sh_size = sizeof f.symbols;
  f.sections[1].sh_link = 2;
  f.sections[2].sh_type = SHT_STRTAB;
  f.sections[2].sh_offset = offsetof(File, strings);
  f.sections[2].sh_size = sizeof f.strings;
  std::vector<u8> bytes(sizeof f);
  std::memcpy(bytes.data(), &f, sizeof f);
  return bytes;
}

TEST(ElfSymbols, TellsWhoseAFileIs) {
  const auto info = elf_info(make_elf());
  ASSERT_TRUE(info);
  EXPECT_TRUE(info->fixed_address && info->has_symbols && !info->has_exports);
  EXPECT_FALSE(info->is_kernel);
  EXPECT_EQ(info->build_id, "000102030405060708090a0b0c0d0e0f10111213");
  EXPECT_EQ(info->lowest, 0x400000u);
  EXPECT_EQ(info->highest, 0x402000u);
  EXPECT_FALSE(elf_info(make_elf(false))->fixed_address);
  EXPECT_FALSE(elf_info({}));
}

TEST(ElfSymbols, AStrippedFileHasTheNamesThatItExports) {
  const std::vector<u8> library = make_elf(false, SHT_DYNSYM);
  const auto info = elf_info(library);
  EXPECT_TRUE(info && !info->has_symbols && info->has_exports);
  EXPECT_EQ(ElfSymbols::read(library).name_of(0x400101), "main+0x1");
}

TEST(ElfSymbols, NamesAddresses) {
  const ElfSymbols s = ElfSymbols::read(make_elf());
  EXPECT_EQ(s.name_of(0x400100), "main");
  EXPECT_EQ(s.name_of(0x40013f), "main+0x3f");
  EXPECT_EQ(s.name_of(0x400140), "");  // main has ended
  EXPECT_EQ(s.name_of(0x400010), "start+0x10");
  EXPECT_EQ(s.name_of(0x401080), "table+0x80");
  EXPECT_EQ(s.name_of(0x3fffff), "");
  EXPECT_EQ(s.address_of("table"), 0x401000u);
  EXPECT_EQ(s.address_of("none"), std::nullopt);
}

TEST(ElfSymbols, AnyFileIsSafe) {
  std::mt19937_64 random(9);
  const std::vector<u8> good = make_elf();
  for (int round = 0; round < 20000; ++round) {
    std::vector<u8> bad = good;
    for (int i = 0; i < 4; ++i) bad[random() % bad.size()] = static_cast<u8>(random() % 3 ? 0xff : random());
    if (round % 4 == 0) bad.resize(random() % bad.size());
    elf_info(bad);
    ElfSymbols::read(bad).name_of(0x400100);
  }
}

TEST(ElfSymbols, FindsFilesInDirectories) {
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "deja_elf_symbols";
  std::filesystem::create_directories(dir / "a/b");
  const std::vector<u8> bytes = make_elf();
  const auto write = [&](const char* name, const void* data, std::size_t size) {
    std::ofstream(dir / name, std::ios::binary)
        .write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  };
  write("a/b/program", bytes.data(), bytes.size());
  write("a/text", "hello", 5);
  const auto found = find_symbol_files({dir.string()});
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found.value().size(), 1u);
  EXPECT_EQ(found.value()[0].path.filename(), "program");
  EXPECT_NE(find_symbol_files({(dir / "a/text").string()}).error().message.find("not an ELF file"),
            std::string::npos);
  EXPECT_FALSE(find_symbol_files({(dir / "nowhere").string()}).ok());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace deja
