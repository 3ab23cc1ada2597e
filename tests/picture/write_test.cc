// Files are written whole or not at all.
#include <sys/resource.h>

#include <csignal>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

TEST(Write, FormatFollowsTheSuffix) {
  TempFolder folder;
  for (const auto* name : {"a.png", "b.PNG", "c.jpg", "d.JPEG", "e.webp"}) {
    write_image(folder / name, gradient(8, 8, 4), {.parameters = "p", .job = "j"}, Exists::refuse);
    EXPECT_EQ(read_metadata(folder / name).job, "j");
    EXPECT_EQ(read_image(folder / name).channels, folder.path().empty() || image_format(name) == ImageFormat::jpeg ? 3 : 4);
  }
  EXPECT_EQ(file_bytes(folder / "c.jpg")[0], 0xff);
}

TEST(Write, UnknownSuffixesListTheKnown) {
  TempFolder folder;
  for (const auto* name : {"a.gif", "a", "a.png.txt", ".png"})
    expect_error([&] { write_image(folder / name, gradient(8, 8), {}, Exists::replace); }, Code::usage,
                 "use .png, .jpg, .jpeg or .webp");
  EXPECT_TRUE(folder.empty());
}

TEST(Write, NothingIsOverwrittenUnlessAsked) {
  TempFolder folder;
  write_image(folder / "a.png", gradient(8, 8), {}, Exists::refuse);
  expect_error([&] { write_image(folder / "a.png", gradient(9, 9), {}, Exists::refuse); }, Code::io, "exists already");
  EXPECT_EQ(read_image(folder / "a.png"), gradient(8, 8));
  write_image(folder / "a.png", gradient(9, 9), {}, Exists::replace);
  EXPECT_EQ(read_image(folder / "a.png"), gradient(9, 9));
}

TEST(Write, AFullDiskLeavesNothing) {
  TempFolder folder;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{200, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  for (const auto* name : {"a.png", "a.jpg"})
    expect_error([&] { write_image(folder / name, gradient(64, 64), {}, Exists::refuse); }, Code::io, "cannot write");
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(folder.empty());
}

TEST(Write, AFullDiskKeepsTheOldPicture) {
  TempFolder folder;
  write_image(folder / "a.png", gradient(8, 8), {}, Exists::refuse);
  expect_error([&] { write_image(folder / "a.jpg", gradient(8, 8), {.job = std::string(70000, 'x')}, Exists::refuse); },
               Code::unsupported, "write a PNG");
  expect_error([&] { write_image(folder / "none" / "a.png", gradient(8, 8), {}, Exists::refuse); }, Code::not_found, "a.png");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace cudream
